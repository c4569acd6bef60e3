// `ai` with `@ai-sdk/anthropic`.
import { ask } from "./ai.mjs";
import { connection, load, run } from "./run.mjs";

const { createAnthropic } = load("@ai-sdk/anthropic");

await run(async (cell, heard) => {
  const provider = createAnthropic(connection(cell));
  const more = cell.trouble === "field" ? { stopSequences: 5 } : {};
  await ask(provider(cell.model), cell, heard, { maxOutputTokens: 1024, ...more });
});
