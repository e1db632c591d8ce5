// Sends events with Segment's library for Node; prints the errors that it reports, and the statuses of the answers.
import { Analytics } from "@segment/analytics-node";

const { GATEWAY, API_KEY, USER_ID: userId } = process.env;
const errors = [];
const statuses = [];

async function send(writeKey, calls) {
  const analytics = new Analytics({ writeKey, host: GATEWAY });
  analytics.on("error", (error) => errors.push(String(error.reason ?? error.code)));
  analytics.on("http_response", (answer) => statuses.push(answer.status));
  calls(analytics);
  await analytics.closeAndFlush();
}

await send(API_KEY, (analytics) => {
  analytics.identify({ userId, traits: { plan: "pro" }, messageId: `${userId}-node-identify` });
  analytics.track({ userId, event: "x".repeat(256), messageId: `${userId}-node-refused` });
  for (let number = 0; number < 40; number++) {
    analytics.track({ userId, event: "Order Completed", properties: { n: number }, messageId: `${userId}-node-${number}` });
  }
});
await send("tg_wrong_key", (analytics) => analytics.track({ userId, event: "Order Completed" }));
console.log(JSON.stringify({ errors, statuses: [...new Set(statuses)] }));
