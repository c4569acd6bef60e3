// `ai` with `@ai-sdk/openai`: responses, which it takes by itself, or chat completions, as the cell's door says.
import { ask } from "./ai.mjs";
import { connection, load, run } from "./run.mjs";

const { createOpenAI } = load("@ai-sdk/openai");

// This client checks its own fields, so the wrong one is put into what it sends.
function spoiling(url, { body, ...sent }) {
  return fetch(url, { ...sent, body: JSON.stringify({ ...JSON.parse(body), temperature: "hot" }) });
}

await run(async (cell, heard) => {
  const provider = createOpenAI({ ...connection(cell), ...(cell.trouble === "field" ? { fetch: spoiling } : {}) });
  await ask(cell.door === "responses" ? provider(cell.model) : provider.chat(cell.model), cell, heard);
});
