// The official `@anthropic-ai/sdk`: whole, its stream read in a loop, and its streaming helper.
import { connection, load, question, run, TOOLS } from "./run.mjs";

const { Anthropic } = load("@anthropic-ai/sdk");

const tools = TOOLS.map(({ schema, ...tool }) => ({ ...tool, input_schema: schema }));

function hear(message, heard) {
  for (const block of message.content) {
    if (block.type === "text") heard.text += block.text;
    if (block.type === "thinking") heard.reasoning += block.thinking;
    if (block.type === "tool_use")
      heard.calls.push({ id: block.id, name: block.name, said: JSON.stringify(block.input) });
  }
  heard.usages.push(message.usage);
}

function hearEvent(event, heard, blocks) {
  if (event.type === "message_start") heard.head = event.message.usage;
  if (event.type === "message_delta") heard.usages.push(event.usage);
  if (event.type === "content_block_start" && event.content_block.type === "tool_use") {
    blocks[event.index] = { id: event.content_block.id, name: event.content_block.name, said: "" };
    heard.calls.push(blocks[event.index]);
  }
  if (event.type !== "content_block_delta") return;
  heard.text += event.delta.text ?? "";
  heard.reasoning += event.delta.thinking ?? "";
  if (event.delta.type === "input_json_delta") blocks[event.index].said += event.delta.partial_json;
}

await run(async (cell, heard) => {
  const { baseURL, apiKey } = connection(cell);
  // This client adds /v1 itself.
  const client = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ""), apiKey, maxRetries: 0 });
  const asked = {
    model: cell.model,
    max_tokens: 1024,
    messages: [{ role: "user", content: question(cell) }],
    ...(cell.tools ? { tools } : {}),
    ...(cell.trouble === "field" ? { stop_sequences: 5 } : {}),
  };
  const blocks = {};
  if (cell.way === "whole") hear(await client.messages.create(asked), heard);
  else if (cell.way === "stream")
    for await (const event of await client.messages.create({ ...asked, stream: true })) hearEvent(event, heard, blocks);
  else hear(await client.messages.stream(asked).finalMessage(), heard);
});
