// `ai` with `@ai-sdk/openai-compatible`: chat completions of whoever speaks them.
import { ask } from "./ai.mjs";
import { connection, load, run } from "./run.mjs";

const { createOpenAICompatible } = load("@ai-sdk/openai-compatible");

await run(async (cell, heard) => {
  const provider = createOpenAICompatible({ name: "counterfoil", ...connection(cell), includeUsage: true });
  const more = cell.trouble === "field" ? { stopSequences: 5 } : {};
  await ask(provider(cell.model), cell, heard, more);
});
