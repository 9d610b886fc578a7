//! Plans of encoders, of passthroughs, and of both.

use super::*;
use crate::testing::spec;
use Producer::{Encoder, Passthrough};
use Quality::{High, Low, Medium};
use model::VideoCodec;
use std::time::Duration;

fn plan(input: InputKind, transcode: bool) -> Plan {
    let spec = spec(input, transcode);
    Plan::new(&spec, Producers::of(&spec))
}

/// The two lower layers are encoded, the source is the highest.
fn mixed() -> Plan {
    let spec = spec(InputKind::Rtmp, true);
    let encoded = spec.video.encoding.layers[..2].to_vec();
    Plan::new(&spec, Producers { encoded, passthrough: true, audio: AudioProducer::Encoder })
}

fn format(codec: VideoCodec) -> VideoFormat {
    VideoFormat { codec, parameters: String::new(), described: false }
}

fn layer(quality: Quality, width: u32, height: u32) -> Layer {
    Layer { quality, width, height, bitrate: 0 }
}

fn producers(plan: &Plan) -> Vec<(Quality, Producer)> {
    plan.outputs.iter().map(|o| (o.layer.quality, o.layer.producer)).collect()
}

#[test]
fn transcoding_is_a_plan_of_encoders() {
    let (mut plan, now) = (plan(InputKind::Rtmp, true), Instant::now());
    assert!(plan.needs_worker() && !plan.video_known() && plan.encoders_watched() && !plan.encoders_seen());
    let change = plan.decoded_size((1280, 720), now);
    assert_eq!(change, Change { encoders: true, ..Change::default() });
    assert_eq!(producers(&plan), [(Low, Encoder(0)), (Medium, Encoder(1)), (High, Encoder(2))]);
    let formats: Vec<_> = plan.publish().into_iter().map(|layer| layer.format).collect();
    assert_eq!(formats, vec![VideoFormat::from(model::EncodedVideo::H264); 3]);
    assert_eq!(plan.decoded_size((1280, 720), now), Change::default(), "nothing changes");
    assert_eq!(plan.decoded_size((640, 360), now), Change::default(), "layers shrink late");
    let change = plan.tick(now + Duration::from_secs(10));
    assert_eq!(change, Change { encoders: true, track: TrackChange::Resized, keyframes: vec![] });
    assert_eq!((plan.layers()[2].width, plan.encoder_layers().len()), (640, 3));
    assert_eq!(plan.opus_format(), OpusFormat { stereo: false, dtx: true });
    assert_eq!(plan.expected(), None);
}

#[test]
fn whip_without_transcoding_is_passthroughs() {
    let mut plan = plan(InputKind::Whip, false);
    assert!(!plan.needs_worker() && plan.passes_audio());
    plan.expect(format(VideoCodec::Vp8));
    assert_eq!(plan.expected(), Some(format(VideoCodec::Vp8)));
    let two = |width| vec![layer(Low, 320, 180), layer(High, width, 720)];
    assert_eq!(plan.source_video(format(VideoCodec::Vp8), two(1280)), Change::default());
    assert_eq!(producers(&plan), [(Low, Passthrough(0)), (High, Passthrough(1))]);
    plan.publish();
    assert_eq!(plan.source_video(format(VideoCodec::Vp8), two(960)).track, TrackChange::Resized);
    assert_eq!(plan.source_video(format(VideoCodec::H264), two(960)).track, TrackChange::Replaced);
    plan.publish();
    let one = vec![layer(High, 1280, 720)];
    assert_eq!(plan.source_video(format(VideoCodec::H264), one).track, TrackChange::Replaced);
    plan.source_audio(OpusFormat { stereo: true, dtx: false });
    assert_eq!(plan.opus_format(), OpusFormat { stereo: true, dtx: false });
    assert!(!plan.encoders_watched(), "nothing is encoded");
}

#[test]
fn a_mixed_plan_waits_for_both_producers() {
    let (mut plan, now) = (mixed(), Instant::now());
    assert!(plan.decoded_size((1280, 720), now).encoders);
    assert!(!plan.video_known());
    plan.source_video(format(VideoCodec::H264), vec![layer(High, 1280, 720)]);
    assert_eq!(producers(&plan), [(Low, Encoder(0)), (Medium, Encoder(1)), (High, Passthrough(0))]);
    assert_eq!((plan.route(Encoder(1), false), plan.route(Passthrough(0), false)), (Some(1), Some(2)));
    assert_eq!((plan.route(Encoder(2), true), plan.route(Passthrough(1), true)), (None, None));
    assert_eq!((plan.keyframe_producer(2), plan.keyframe_producer(0)), (Some(Passthrough(0)), Some(Encoder(0))));
    assert_eq!(plan.want(&[true, false, false]), [(Encoder(1), false), (Passthrough(0), false)]);
    assert!(plan.encoders_seen());
    plan.want(&[false, false, true]);
    assert!(!plan.encoders_watched(), "only the source's layer is watched");
}

#[test]
fn a_producer_takes_over_with_its_key_frame() {
    let (mut plan, now) = (plan(InputKind::Rtmp, true), Instant::now());
    plan.decoded_size((1280, 720), now);
    let mut outputs: Vec<_> = plan.outputs.iter().map(|o| o.layer).collect();
    outputs[2].producer = Passthrough(0);
    assert_eq!(plan.apply(&outputs).keyframes, [Passthrough(0)]);
    assert_eq!(plan.keyframe_producer(2), Some(Passthrough(0)), "that is the one to wait for");
    assert_eq!(plan.want(&[true, true, false]), [(Encoder(2), false), (Passthrough(0), false)], "both");
    assert_eq!((plan.route(Passthrough(0), false), plan.route(Encoder(2), true)), (None, Some(2)));
    assert_eq!(plan.route(Passthrough(0), true), Some(2));
    assert_eq!((plan.route(Encoder(2), true), plan.route(Passthrough(0), false)), (None, Some(2)));
    assert_eq!(plan.route(Encoder(1), false), Some(1), "the others go on");
}

#[test]
fn a_change_that_is_taken_back_changes_nothing() {
    let (mut plan, now) = (plan(InputKind::Rtmp, true), Instant::now());
    plan.decoded_size((1280, 720), now);
    let before: Vec<_> = plan.outputs.iter().map(|o| o.layer).collect();
    let mut outputs = before.clone();
    outputs[0].producer = Passthrough(0);
    plan.apply(&outputs);
    assert_eq!(plan.apply(&before), Change::default());
    assert_eq!((plan.route(Passthrough(0), true), plan.route(Encoder(0), false)), (None, Some(0)));
}
