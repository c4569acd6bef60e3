// `ChatOpenAI` of `@langchain/openai`, through chat completions or, where the cell's door says so, through responses.
import { ask } from "./langchain.mjs";
import { connection, load, run, TOOLS } from "./run.mjs";

const { ChatOpenAI } = load("@langchain/openai");

const tools = TOOLS.map(({ schema, ...tool }) => ({ type: "function", function: { ...tool, parameters: schema } }));

await run(async (cell, heard) => {
  const { apiKey, baseURL } = connection(cell);
  const chat = new ChatOpenAI({
    model: cell.model,
    apiKey,
    configuration: { baseURL },
    maxRetries: 0,
    useResponsesApi: cell.door === "responses",
    ...(cell.trouble === "field" ? { temperature: "hot" } : {}),
    ...cell.fields,
  });
  await ask(cell.tools ? chat.bindTools(tools) : chat, cell, heard);
});
