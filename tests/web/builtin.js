// node builtin.js ADDRESS SUBPROTOCOL MESSAGE…: Node's own WebSocket, nothing of ours.
const [address, subprotocol, ...messages] = process.argv.slice(2);
const socket = new WebSocket(address, subprotocol);
socket.onopen = () => messages.forEach((message) => socket.send(message));
socket.onmessage = ({ data }) => console.log(data);
socket.onclose = ({ code, reason }) => console.log(`${socket.protocol} ${code} ${reason}`);
