// node builtin.js ADDRESS OFFER MESSAGE…: the WebSocket of Node, without chimirror.js.
// OFFER is a comma-separated list of subprotocols, or empty.
const [address, offer, ...messages] = process.argv.slice(2);
const socket = new WebSocket(address, offer ? offer.split(",") : []);
socket.onopen = () => messages.forEach((message) => socket.send(message));
socket.onmessage = ({ data }) => console.log(data);
socket.onclose = ({ code, reason }) => console.log(`${socket.protocol} ${code} ${reason}`);
