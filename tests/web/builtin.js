// node builtin.js ADDRESS OFFER MESSAGE…: Node's own WebSocket, nothing of ours. OFFER
// is a list of subprotocols with commas, or empty for none.
const [address, offer, ...messages] = process.argv.slice(2);
const socket = new WebSocket(address, offer ? offer.split(",") : []);
socket.onopen = () => messages.forEach((message) => socket.send(message));
socket.onmessage = ({ data }) => console.log(data);
socket.onclose = ({ code, reason }) => console.log(`${socket.protocol} ${code} ${reason}`);
