// The official `openai` client, responses: whole, its stream read in a loop, and its streaming helper.
import { connection, load, question, run, TOOLS } from "./run.mjs";

const { OpenAI } = load("openai");

const tools = TOOLS.map(({ schema, ...tool }) => ({ type: "function", strict: false, ...tool, parameters: schema }));

function hearItem(item, heard) {
  const reasoned = [...(item.summary ?? []), ...((item.type === "reasoning" && item.content) || [])];
  if (item.type === "reasoning") heard.reasoning += reasoned.map((part) => part.text).join("");
  if (item.type === "function_call") heard.calls.push({ id: item.call_id, name: item.name, said: item.arguments });
}

function hear(response, heard) {
  heard.text = response.output_text;
  for (const item of response.output) hearItem(item, heard);
  heard.usages.push(response.usage);
}

function hearEvent(event, heard, arguments_) {
  if (event.response?.usage) heard.usages.push(event.response.usage);
  if (event.type === "response.output_text.delta") heard.text += event.delta;
  if (/^response\.reasoning(_summary)?_text\.delta$/.test(event.type)) heard.reasoning += event.delta;
  if (event.type === "response.function_call_arguments.delta")
    arguments_[event.item_id] = (arguments_[event.item_id] ?? "") + event.delta;
  if (event.type === "response.output_item.done" && event.item.type === "function_call")
    heard.calls.push({ id: event.item.call_id, name: event.item.name, said: arguments_[event.item.id] ?? "" });
  if (event.type === "response.completed") heard.output = event.response.output.map(({ type }) => type);
}

await run(async (cell, heard) => {
  const { responses } = new OpenAI({ ...connection(cell), maxRetries: 0 });
  const asked = {
    model: cell.model,
    input: question(cell),
    store: false,
    ...(cell.tools ? { tools } : {}),
    ...(cell.trouble === "field" ? { temperature: "hot" } : {}),
  };
  const arguments_ = {};
  if (cell.way === "whole") hear(await responses.create(asked), heard);
  else if (cell.way === "stream")
    for await (const event of await responses.create({ ...asked, stream: true })) hearEvent(event, heard, arguments_);
  else hear(await responses.stream(asked).finalResponse(), heard);
});
