// Sends messages over the webhook with fetch, each again until the service has answered. For browsers and Node alike:
//
//   KEY=mw_dev_… node examples/javascript/submit.mjs "Here is my meal"
//
// In a browser see widget.html beside this file.

const LONGEST_PAUSE = 30_000;

/** The message or the key is wrong, and will be wrong again with the same ones. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    /** Whether it is the key: the message may be sent with another, or when the server knows this one. */
    this.isKey = status === 401 || status === 403;
  }
}

/** A new message. Its message_sid is made here, once, and stays through all tries. */
export function newMessage(fromId, text) {
  const random = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
  return {
    from_id: fromId,
    message_sid: `msg_${random.join("")}`,
    timestamp: Math.floor(Date.now() / 1000),
    message_body: text,
  };
}

/**
 * Resolves to the receipt once the message is durable. `message` must be the same at each call for one message; keep it
 * until then, and a page that was closed meanwhile can go on where it was.
 */
export async function submit(url, key, message, onRetry = () => {}) {
  for (let pause = 500; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    let why;
    let retryAfter = 0;
    try {
      const answer = await fetch(url, {
        method: "POST",
        headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
        body: JSON.stringify(message),
        signal: AbortSignal.timeout(30_000),
      });
      const body = await answer.json().catch(() => null);
      if (answer.status === 200 && body) {
        // "Already processed" is a success like the first one: an earlier try came through, its answer did not.
        return body;
      }
      if (answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status)) {
        throw new Refused(body?.message ?? `refused with ${answer.status}`, answer.status);
      }
      why = `status ${answer.status}`;
      retryAfter = 1000 * Number(answer.headers.get("Retry-After") ?? 0);
    } catch (error) {
      if (error instanceof Refused) throw error;
      why = error.name;
    }
    // Accepted or not, nobody here can tell. The same message again will.
    onRetry(why);
    await new Promise((done) => setTimeout(done, retryAfter || pause * (0.5 + Math.random() / 2)));
  }
}

// Run as a program.
const { argv, env } = globalThis.process ?? { argv: [], env: {} };
if (argv[1]?.endsWith("submit.mjs")) {
  const url = env.WEBHOOK_URL ?? "http://127.0.0.1:8080/demo/dev/v1/message-webhook";
  const message = newMessage("user_abc123", argv[2] ?? "Here is my meal, this is gruyere cheese btw.");
  try {
    const receipt = await submit(url, env.KEY, message, (why) => console.error(`no answer yet (${why}), trying again`));
    console.log(`${receipt.message_sid}: ${receipt.message}, accepted at ${receipt.accepted_at}`);
  } catch (error) {
    console.error(`refused: ${error.message}`);
    globalThis.process.exitCode = 1;
  }
}
