// What the programs for Vercel's `ai` have in common: `generateText` and `streamText` with one provider or another.
import { load, question, TOOLS } from "./run.mjs";

const { generateText, jsonSchema, streamText } = load("ai");

const tools = Object.fromEntries(
  TOOLS.map(({ name, description, schema }) => [name, { description, inputSchema: jsonSchema(schema) }]),
);

function called({ toolCallId: id, toolName: name, input }) {
  return { id, name, said: JSON.stringify(input) };
}

// Ask `model` as the cell says. An error in a stream is a part of it; it is thrown here as `generateText` throws.
export async function ask(model, cell, heard, more = {}) {
  const asked = { model, prompt: question(cell), maxRetries: 0, ...(cell.tools ? { tools } : {}), ...more };
  if (cell.way === "whole") {
    const { text, reasoningText, toolCalls, usage } = await generateText(asked);
    Object.assign(heard, { text, reasoning: reasoningText ?? "", calls: toolCalls.map(called), usages: [usage] });
    return;
  }
  for await (const part of streamText({ ...asked, onError: () => {} }).fullStream) {
    if (part.type === "text-delta") heard.text += part.text;
    if (part.type === "reasoning-delta") heard.reasoning += part.text;
    if (part.type === "tool-call") heard.calls.push(called(part));
    if (part.type === "error") throw part.error;
    if (part.type === "finish") heard.usages.push(part.totalUsage);
  }
}
