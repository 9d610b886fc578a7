// libdatachannel, which OBS sends WHIP with, as a client: what OBS offers, and media that ffmpeg makes, until SIGINT deletes the session.
//
//   datachannel_whip.cjs URL KEY PICTURE_PORT SOUND_PORT [ADDRESS [LAYERS]]
//
// RTP comes to the two UDP ports on 127.0.0.1, with the payload types and SSRCs of the offer; ADDRESS is where ICE binds. Several LAYERS
// are offered by their SSRCs alone (ssrc-group:SIM), from 96 on.
const ndc = require('node-datachannel');
const dgram = require('node:dgram');
const [url, key, picturePort, soundPort, address = '127.0.0.1', layers = '1'] = process.argv.slice(2);
const headers = {'Content-Type': 'application/sdp', Authorization: 'Bearer ' + key, 'User-Agent': 'OBS-Studio/31'};
const peer = new ndc.PeerConnection('whip', {iceServers: [], disableAutoNegotiation: true, bindAddress: address});
let session;

function add(line, ssrc, name, port) {
  line.addSSRC(ssrc, 'obs', 'obs', 'obs-' + name);
  const track = peer.addTrack(line);
  // Answers requests for what was lost, as OBS does.
  track.setMediaHandler(new ndc.RtcpNackResponder());
  dgram.createSocket('udp4').bind(Number(port), '127.0.0.1').on('message', m => track.isOpen() && track.sendMessageBinary(m));
  return track;
}
function layered(sdp) {
  if (layers === '1') return sdp;
  const ssrcs = [...Array(Number(layers)).keys()].map(n => 96 + n);
  const more = ssrcs.slice(1).map(ssrc => `a=ssrc:${ssrc} cname:obs\r\n`).join('');
  return sdp.replace(/(a=ssrc:96 cname:[^\r\n]*\r\n)/, `a=ssrc-group:SIM ${ssrcs.join(' ')}\r\n$1${more}`);
}
const sound = new ndc.Audio('0', 'SendOnly');
sound.addOpusCodec(111, 'minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1');
const picture = new ndc.Video('1', 'SendOnly');
picture.addH264Codec(96, 'profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1');
const tracks = [add(sound, 111, 'audio', soundPort), add(picture, 96, 'video', picturePort)];

peer.onStateChange(state => console.log('state', state));
peer.onGatheringStateChange(async state => {
  if (state !== 'complete' || session !== undefined) return;
  session = null;
  const answer = await fetch(url, {method: 'POST', body: layered(peer.localDescription().sdp), headers});
  console.log('answered', answer.status);
  if (answer.status !== 201) process.exit(1);
  session = new URL(answer.headers.get('Location'), url).href;
  const text = await answer.text();
  console.log(text);
  peer.setRemoteDescription(text, 'answer');
});
process.on('SIGINT', async () => {
  if (session) console.log('deleted', (await fetch(session, {method: 'DELETE', headers})).status);
  tracks.forEach(track => track.close());
  peer.close();
  process.exit(0);
});
peer.setLocalDescription('offer');
