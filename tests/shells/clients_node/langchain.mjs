// What the two LangChain.js programs have in common: how a chat model is asked, and what its message says.
import { question } from "./run.mjs";

// Ask `chat` as the cell says. What is told of a stream is told of its pieces put together with `concat`.
export async function ask(chat, cell, heard) {
  const pieces = [];
  if (cell.way === "whole") pieces.push(await chat.invoke(question(cell)));
  else
    for await (const piece of await chat.stream(question(cell))) {
      heard.text += piece.text;
      pieces.push(piece);
    }
  const message = pieces.reduce((before, piece) => before.concat(piece));
  heard.text = message.text;
  heard.calls = (message.tool_calls ?? []).map(({ id, name, args }) => ({ id, name, said: JSON.stringify(args) }));
  heard.reasoning = reasoning(message);
  heard.usages.push(message.usage_metadata ?? null);
  heard.told = pieces.filter((piece) => piece.usage_metadata).length;
  heard.metadata = message.response_metadata;
}

function reasoning(message) {
  const { reasoning_content: plain, reasoning: item } = message.additional_kwargs;
  const blocks = Array.isArray(message.content) ? message.content : [];
  const summary = item?.summary ?? [];
  return plain ?? [...blocks.map((block) => block.thinking ?? ""), ...summary.map((part) => part.text)].join("");
}
