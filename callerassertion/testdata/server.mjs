// An app behind docs/verify-the-caller/caller-assertion.mjs: 200 or 403.
import http from 'node:http';
import { pathToFileURL } from 'node:url';

const [file, gateway, host] = process.argv.slice(2);
const { callerAssertion } = await import(pathToFileURL(file));
const verify = callerAssertion(gateway, [host]);
const server = http.createServer(async (request, response) => {
  try {
    response.end((await verify(request)).caller_app);
  } catch (refusal) {
    response.writeHead(403).end(refusal.message);
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
