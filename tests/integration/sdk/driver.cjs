// Drives the unmodified npm `centrifuge` client from another process: one JSON command a
// line on standard input, one JSON event a line on standard output. The test that started
// this process decides everything; nothing here knows what a right answer is.
//
// usage: node driver.cjs NODE_MODULES_DIRECTORY
'use strict';
const { createInterface } = require('node:readline');
const { createRequire } = require('node:module');
const path = require('node:path');

const fromPages = createRequire(path.join(process.argv[2], 'index.js'));
const { Centrifuge } = fromPages('centrifuge');

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
let client = null;
let giveToken = null;

function open({ url, token, refresh }) {
  const options = { minReconnectDelay: 50, maxReconnectDelay: 300 };
  if (token) options.token = token;
  if (refresh) {
    options.getToken = () =>
      new Promise((resolve) => {
        giveToken = resolve;
        say({ event: 'token_wanted' });
      });
  }
  client = new Centrifuge(url, options);
  client.on('connecting', ({ code, reason }) => say({ event: 'connecting', code, reason }));
  client.on('connected', ({ data }) => say({ event: 'connected', data }));
  client.on('disconnected', ({ code, reason }) => say({ event: 'disconnected', code, reason }));
  client.on('subscribed', ({ channel, wasRecovering, recovered, streamPosition }) =>
    say({ event: 'subscribed', channel, wasRecovering, recovered, streamPosition }),
  );
  client.on('publication', ({ channel, offset, data }) =>
    say({ event: 'publication', channel, offset: offset ?? 0, data }),
  );
  client.on('error', ({ type, error }) => say({ event: 'error', type, code: error.code }));
  client.connect();
}

function subscribe({ channel }) {
  const subscription = client.newSubscription(channel);
  subscription.on('subscribed', ({ recovered }) =>
    say({ event: 'subscribed', channel, recovered }),
  );
  subscription.on('publication', ({ offset, data }) =>
    say({ event: 'publication', channel, offset: offset ?? 0, data }),
  );
  subscription.on('unsubscribed', ({ code }) => say({ event: 'unsubscribed', channel, code }));
  subscription.subscribe();
}

async function call(id, promise) {
  try {
    say({ event: 'answer', id, result: await promise });
  } catch (error) {
    const { code, message, temporary } = error;
    say({ event: 'answer', id, error: { code, message, temporary: temporary === true } });
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line);
    switch (command.do) {
      case 'open':
        open(command);
        break;
      case 'subscribe':
        subscribe(command);
        break;
      case 'rpc':
        call(command.id, client.rpc(command.method, command.data).then(({ data }) => data));
        break;
      case 'history':
        call(command.id, client.history(command.channel, { limit: command.limit }));
        break;
      case 'presence_stats':
        call(command.id, client.presenceStats(command.channel));
        break;
      case 'token':
        giveToken(command.token);
        break;
    }
  })
  .on('close', () => process.exit(0));
