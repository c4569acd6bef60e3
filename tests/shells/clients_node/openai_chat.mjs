// The official `openai` client, chat completions: whole, its stream read in a loop, and its streaming helper.
import { connection, load, question, run, TOOLS } from "./run.mjs";

const { OpenAI } = load("openai");

const tools = TOOLS.map(({ schema, ...tool }) => ({ type: "function", function: { ...tool, parameters: schema } }));

function hear(completion, heard) {
  const [{ message }] = completion.choices;
  heard.text = message.content ?? "";
  heard.reasoning = message.reasoning_content ?? "";
  heard.calls = (message.tool_calls ?? []).map(({ id, function: { name, arguments: said } }) => ({ id, name, said }));
  heard.usages.push(completion.usage);
}

function hearChunk(chunk, heard) {
  if (chunk.usage) heard.usages.push(chunk.usage);
  for (const { delta } of chunk.choices) {
    heard.text += delta.content ?? "";
    heard.reasoning += delta.reasoning_content ?? "";
    for (const { index, id, function: said } of delta.tool_calls ?? []) {
      const call = (heard.calls[index] ??= { id: "", name: "", said: "" });
      call.id += id ?? "";
      call.name += said?.name ?? "";
      call.said += said?.arguments ?? "";
    }
  }
}

await run(async (cell, heard) => {
  const { completions } = new OpenAI({ ...connection(cell), maxRetries: 0 }).chat;
  const asked = {
    model: cell.model,
    messages: [{ role: "user", content: question(cell) }],
    ...(cell.tools ? { tools } : {}),
    ...(cell.trouble === "field" ? { stop: 5 } : {}),
  };
  const streamed = { ...asked, stream: true, stream_options: { include_usage: true } };
  if (cell.way === "whole") hear(await completions.create(asked), heard);
  else if (cell.way === "stream") for await (const chunk of await completions.create(streamed)) hearChunk(chunk, heard);
  else hear(await completions.stream(streamed).finalChatCompletion(), heard);
});
