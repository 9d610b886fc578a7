//! From wide gamut and high dynamic range to what a room shows: BT.709 with eight bits. GStreamer's converter knows matrices, but
//! not how much brighter than white a picture may be.
//!
//! Pictures come scaled, as BT.2020 with ten bits, and go through a table of what each colour becomes: a lattice of 33 points for
//! each of Y, Cb and Cr, between which values are interpolated. So what a colour becomes may be worked out with care, and a picture
//! of 720p takes 5 ms (measured), which is a little less than its encoder.

use gstreamer_video::{self as gst_video, VideoInfo};

/// The transfer function of pictures that are mapped here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferFunction {
    /// Perceptual quantizer (SMPTE ST 2084), and the peak luminance in nits.
    Pq(u16),
    /// Hybrid log-gamma (ARIB STD-B67).
    Hlg,
    /// That of BT.709: only the gamut is wider.
    Sdr,
}

/// The transfer function of such pictures, whose peak luminance is `peak` (nits); `None` if they need no mapping.
pub(crate) fn transfer_function(info: &VideoInfo, peak: Option<u16>) -> Option<TransferFunction> {
    use gst_video::{VideoColorMatrix as Matrix, VideoColorPrimaries as Primaries, VideoTransferFunction as Transfer};
    let colours = info.colorimetry();
    match (colours.transfer(), colours.primaries(), colours.matrix()) {
        (Transfer::Smpte2084, ..) => {
            Some(TransferFunction::Pq(peak.unwrap_or(NOMINAL_PEAK as u16).clamp(MIN_PEAK, MAX_PEAK)))
        }
        (Transfer::AribStdB67, ..) => Some(TransferFunction::Hlg),
        (_, Primaries::Bt2020, _) | (_, Primaries::Unknown, Matrix::Bt2020) => Some(TransferFunction::Sdr),
        _ => None,
    }
}

/// Reference white of HDR in nits (BT.2408 §2.1): it becomes about the white of SDR.
const REFERENCE_WHITE: f64 = 203.0;
/// Peak luminance in nits where the stream does not say it: what nearly all HDR is mastered for, and HLG's nominal peak.
const NOMINAL_PEAK: f64 = 1000.0;
/// The range of peak luminance that is taken from a stream, in nits: enough to leave room above white, and no more than the brightest
/// mastering displays have, as each doubling costs everything else some brightness.
const MIN_PEAK: u16 = 300;
const MAX_PEAK: u16 = 4000;
/// The display's gamma that SDR is made for (BT.1886).
const GAMMA: f64 = 2.4;

/// Points of the lattice along each axis, and the ten-bit codes from one to the next.
const POINTS: usize = 33;
const CELLS: usize = POINTS - 1;
const STEP: u32 = 1024 / CELLS as u32;

/// Table values are code values times this.
const SCALE: i32 = 64;

/// One plane of a picture: its bytes, and how many of them a row takes.
pub(crate) struct Plane<T> {
    pub(crate) bytes: T,
    pub(crate) stride: usize,
}

/// What colours become. Values are those of a picture times [`SCALE`], and may lie beyond those; each entry has the four corners of a
/// cell of Cb and Cr.
pub(crate) struct ToneMapper {
    /// The transfer function of the pictures it takes.
    pub(crate) light: TransferFunction,
    luma: Vec<[i16; 4]>,
    blue: Vec<[i16; 4]>,
    red: Vec<[i16; 4]>,
}

impl std::fmt::Debug for ToneMapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToneMapper").field("light", &self.light).finish_non_exhaustive()
    }
}

impl ToneMapper {
    /// Works out what becomes of the colours; takes some ten milliseconds.
    pub(crate) fn new(light: TransferFunction) -> Self {
        let at = |i: usize| (i as u32 * STEP).into();
        let mut points = Vec::with_capacity(POINTS * POINTS * POINTS);
        for cb in 0..POINTS {
            for cr in 0..POINTS {
                points.extend((0..POINTS).map(|y| mapped(light, [at(y), at(cb), at(cr)])));
            }
        }
        let table = |part: usize| -> Vec<[i16; 4]> {
            let point = |cb: usize, cr: usize, y: usize| points[(cb * POINTS + cr) * POINTS + y][part];
            let cells = (0..CELLS).flat_map(|cb| (0..CELLS).map(move |cr| (cb, cr)));
            let entries = cells.flat_map(|(cb, cr)| (0..POINTS).map(move |y| (cb, cr, y)));
            let corners =
                |(cb, cr, y)| [(cb, cr), (cb, cr + 1), (cb + 1, cr), (cb + 1, cr + 1)].map(|(b, r)| point(b, r, y));
            entries.map(corners).collect()
        };
        Self { light, luma: table(0), blue: table(1), red: table(2) }
    }

    /// Maps a picture of I420 with ten bits (little endian) to one with eight; sides are even.
    pub(crate) fn run(&self, from: [Plane<&[u8]>; 3], to: [Plane<&mut [u8]>; 3], (width, height): (usize, usize)) {
        let [y, cb, cr] = from;
        let [out_y, out_cb, out_cr] = to;
        let chroma = cb.bytes.chunks(cb.stride).zip(cr.bytes.chunks(cr.stride));
        let out_chroma = out_cb.bytes.chunks_mut(out_cb.stride).zip(out_cr.bytes.chunks_mut(out_cr.stride));
        let luma = y.bytes.chunks(2 * y.stride).zip(out_y.bytes.chunks_mut(2 * out_y.stride));
        for ((luma, out_luma), (chroma, out_chroma)) in luma.zip(chroma.zip(out_chroma)).take(height / 2) {
            let (upper, lower) = luma.split_at(y.stride.min(luma.len()));
            let (out_upper, out_lower) = out_luma.split_at_mut(out_y.stride.min(out_luma.len()));
            let blocks = upper.as_chunks::<4>().0.iter().zip(lower.as_chunks::<4>().0);
            let out_blocks = out_upper.as_chunks_mut::<2>().0.iter_mut().zip(out_lower.as_chunks_mut::<2>().0);
            let colours = chroma.0.as_chunks::<2>().0.iter().zip(chroma.1.as_chunks::<2>().0);
            let out_colours = out_chroma.0.iter_mut().zip(out_chroma.1);
            let all = blocks.zip(colours).zip(out_blocks.zip(out_colours)).take(width / 2);
            for (((above, below), (cb, cr)), ((to_above, to_below), (to_cb, to_cr))) in all {
                let (codes, colour) = self.block([*above, *below], code(cb), code(cr));
                (*to_above, *to_below) = ([codes[0], codes[1]], [codes[2], codes[3]]);
                (*to_cb, *to_cr) = colour;
            }
        }
    }

    /// Four pixels that share their colour.
    fn block(&self, rows: [[u8; 4]; 2], cb: u32, cr: u32) -> ([u8; 4], (u8, u8)) {
        let cell = ((cb / STEP) as usize * CELLS + (cr / STEP) as usize) * POINTS;
        let (b, r) = (cb % STEP, cr % STEP);
        // The casts hold: a product is STEP squared, 1024, at most.
        let weights = [(STEP - b) * (STEP - r), (STEP - b) * r, b * (STEP - r), b * r].map(|w| w as i16);
        let [[a0, a1, a2, a3], [b0, b1, b2, b3]] = rows;
        let luma = [[a0, a1], [a2, a3], [b0, b1], [b2, b3]].map(|bytes| code(&bytes));
        let middle = (luma.iter().sum::<u32>() + 2) / 4;
        let codes = luma.map(|y| value(&self.luma, cell, &weights, y).clamp(16, 235));
        let colour = [&self.blue, &self.red].map(|table| value(table, cell, &weights, middle).clamp(16, 240));
        (codes, (colour[0], colour[1]))
    }
}

/// A ten-bit code; what has more bits set is no such code.
fn code(bytes: &[u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(*bytes)).min(1023)
}

/// Between the two points below and above `y`, and the four corners of its cell.
fn value(table: &[[i16; 4]], cell: usize, weights: &[i16; 4], y: u32) -> u8 {
    const WHOLE: i32 = (STEP * STEP * STEP) as i32;
    let at = cell + (y / STEP) as usize;
    let Some([low, high]) = table.get(at..at + 2).and_then(|pair| pair.first_chunk::<2>()) else { return 0 };
    let (above, below) = ((y % STEP) as i32, (STEP - y % STEP) as i32);
    // Weights add up to STEP squared, and values are below 2^15: all in all below 2^30. Sums of products of two times 16 bits are
    // what processors do best.
    let corners = |of: &[i16; 4]| -> i32 { (0..4).map(|i| i32::from(weights[i]) * i32::from(of[i])).sum() };
    let sum = corners(low) * below + corners(high) * above;
    // The cast holds after the clamp.
    ((sum / WHOLE + SCALE / 2) / SCALE).clamp(0, 255) as u8
}

/// What a colour of BT.2020 becomes in BT.709: ten-bit codes to eight-bit codes times [`SCALE`].
fn mapped(light: TransferFunction, [y, cb, cr]: [f64; 3]) -> [i16; 3] {
    let (y, cb, cr) = ((y - 64.0) / 876.0, (cb - 512.0) / 896.0, (cr - 512.0) / 896.0);
    // BT.2020 table 4.
    let (r, b) = (y + 1.4746 * cr, y + 1.8814 * cb);
    let g = (y - 0.2627 * r - 0.0593 * b) / 0.6780;
    let light = to_bt709(tone_mapped(light, [r, g, b]));
    let [r, g, b] = light.map(|v| v.abs().powf(1.0 / GAMMA).copysign(v));
    // BT.709 §3.
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let (cb, cr) = ((b - y) / 1.8556, (r - y) / 1.5748);
    // Casts of floats saturate, at twice what a picture has.
    [16.0 + 219.0 * y, 128.0 + 224.0 * cb, 128.0 + 224.0 * cr].map(|v| (v * f64::from(SCALE)).round() as i16)
}

/// TransferFunction of each colour, 1.0 being white, from what codes it. Points of the lattice may lie outside of what can be coded: they go
/// on evenly, so that what lies between them and others is right.
fn tone_mapped(light: TransferFunction, coded: [f64; 3]) -> [f64; 3] {
    let even = |v: f64, f: fn(f64) -> f64| f(v.abs()).copysign(v);
    let nits = match light {
        TransferFunction::Sdr => return coded.map(|v| even(v, |v| v.powf(GAMMA))),
        TransferFunction::Pq(_) => coded.map(|v| even(v, pq_nits)),
        TransferFunction::Hlg => {
            let scene = coded.map(|v| even(v, hlg_scene));
            let luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2];
            // BT.2100 table 5: a display of 1000 nits has a system gamma of 1.2.
            scene.map(|v| NOMINAL_PEAK * luminance.max(0.0).powf(0.2) * v)
        }
    };
    // By the brightest of the three, so that the hue stays.
    let brightest = nits.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let peak = if let TransferFunction::Pq(peak) = light { f64::from(peak) } else { NOMINAL_PEAK };
    let scale = rolled_off(brightest, peak) / brightest / REFERENCE_WHITE;
    nits.map(|v| v * scale)
}

/// BT.2390 §5.4.1: what is dark stays as it is; what is brighter is rolled off, so that `peak` becomes [`REFERENCE_WHITE`]. In nits.
fn rolled_off(nits: f64, peak: f64) -> f64 {
    let (peak, most) = (pq_code(peak), pq_code(REFERENCE_WHITE) / pq_code(peak));
    let knee = 1.5 * most - 0.5;
    let e = (pq_code(nits) / peak).min(1.0);
    if e < knee {
        return nits;
    }
    let t = (e - knee) / (1.0 - knee);
    let (t2, t3) = (t * t, t * t * t);
    let rolled = (2.0 * t3 - 3.0 * t2 + 1.0) * knee + (t3 - 2.0 * t2 + t) * (1.0 - knee) + (3.0 * t2 - 2.0 * t3) * most;
    pq_nits(rolled * peak)
}

/// From BT.2020's primaries to BT.709's (BT.2407 §2). What these can't show goes beyond 0 and 1, where a screen cuts it off; cut
/// off here already it would bend what lies next to it in the lattice.
fn to_bt709([r, g, b]: [f64; 3]) -> [f64; 3] {
    [1.6605 * r - 0.5876 * g - 0.0728 * b, -0.1246 * r + 1.1329 * g - 0.0083 * b, -0.0182 * r - 0.1006 * g + 1.1187 * b]
}

// SMPTE ST 2084 §5.
const M1: f64 = 2610.0 / 16384.0;
const M2: f64 = 2523.0 / 32.0;
const C1: f64 = 3424.0 / 4096.0;
const C2: f64 = 2413.0 / 128.0;
const C3: f64 = 2392.0 / 128.0;

fn pq_nits(code: f64) -> f64 {
    let v = code.min(1.0).powf(1.0 / M2);
    10_000.0 * ((v - C1).max(0.0) / (C2 - C3 * v)).powf(1.0 / M1)
}

fn pq_code(nits: f64) -> f64 {
    let v = (nits.max(0.0) / 10_000.0).powf(M1);
    ((C1 + C2 * v) / (1.0 + C3 * v)).powf(M2)
}

/// The light of the scene, 1.0 being the peak (BT.2100 table 5).
fn hlg_scene(code: f64) -> f64 {
    const A: f64 = 0.178_832_77;
    const B: f64 = 1.0 - 4.0 * A;
    const C: f64 = 0.559_910_73;
    if code <= 0.5 { code * code / 3.0 } else { (((code - C) / A).exp() + B) / 12.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What becomes of a picture of one colour, given as light of BT.2020 (1.0 is white, for PQ 10,000 nits).
    fn flat(mapper: &ToneMapper, y: u16, cb: u16, cr: u16) -> [u8; 3] {
        let plane = |v: u16, n: usize| v.to_le_bytes().repeat(n);
        let (luma, blue, red) = (plane(y, 16), plane(cb, 4), plane(cr, 4));
        let mut out = [vec![0; 16], vec![0; 4], vec![0; 4]];
        let [a, b, c] = &mut out;
        mapper.run(
            [
                Plane { bytes: &luma[..], stride: 8 },
                Plane { bytes: &blue[..], stride: 4 },
                Plane { bytes: &red[..], stride: 4 },
            ],
            [
                Plane { bytes: &mut a[..], stride: 4 },
                Plane { bytes: &mut b[..], stride: 2 },
                Plane { bytes: &mut c[..], stride: 2 },
            ],
            (4, 4),
        );
        assert!(out.iter().all(|plane| plane.iter().all(|v| *v == plane[0])), "{out:?}");
        out.map(|plane| plane[0])
    }

    /// The codes of BT.2020 for what is coded as these R, G and B.
    fn codes([r, g, b]: [f64; 3]) -> [u16; 3] {
        let y = 0.2627 * r + 0.6780 * g + 0.0593 * b;
        let (cb, cr) = ((b - y) / 1.8814, (r - y) / 1.4746);
        [64.0 + 876.0 * y, 512.0 + 896.0 * cb, 512.0 + 896.0 * cr].map(|v| v.round() as u16)
    }

    fn of(mapper: &ToneMapper, coded: [f64; 3]) -> [u8; 3] {
        let [y, cb, cr] = codes(coded);
        flat(mapper, y, cb, cr)
    }

    #[test]
    fn greys_of_pq_are_as_bright_as_they_are_meant() {
        let mapper = ToneMapper::new(TransferFunction::Pq(1000));
        let grey = |nits: f64| {
            let [y, cb, cr] = of(&mapper, [pq_code(nits); 3]);
            assert!(cb.abs_diff(128) <= 1 && cr.abs_diff(128) <= 1, "{nits} nits: {cb} {cr}");
            y
        };
        assert_eq!((grey(0.0), grey(1000.0), grey(10_000.0)), (16, 235, 235));
        // Dark ones as on any display: 16 + 219 * (nits / 203)^(1 / 2.4).
        for (nits, code) in [(1.0, 40), (10.0, 78), (50.0, 138)] {
            assert!(grey(nits).abs_diff(code) <= 1, "{nits} nits: {} and not {code}", grey(nits));
        }
        let white = grey(REFERENCE_WHITE);
        assert!((205..=222).contains(&white), "paper is white, and leaves room for what is brighter: {white}");
        assert!(grey(400.0) > white + 5 && grey(800.0) > grey(400.0));
    }

    #[test]
    fn highlights_are_told_apart_up_to_the_peak() {
        let grey = |peak: u16, nits: f64| of(&ToneMapper::new(TransferFunction::Pq(peak)), [pq_code(nits); 3])[0];
        assert_eq!((grey(MIN_PEAK, 300.0), grey(MAX_PEAK, 4000.0), grey(MAX_PEAK, 0.0)), (235, 235, 16));
        assert!(grey(MAX_PEAK, 800.0) + 5 < grey(MAX_PEAK, 4000.0) && grey(1000, 800.0) == 235);
        // Where nothing is much brighter than white, white is nearly what it is in SDR.
        assert!(
            grey(MIN_PEAK, REFERENCE_WHITE) > grey(1000, REFERENCE_WHITE)
                && grey(1000, REFERENCE_WHITE) > grey(MAX_PEAK, REFERENCE_WHITE)
        );
        assert!(grey(MIN_PEAK, 50.0).abs_diff(grey(MAX_PEAK, 50.0)) <= 8, "what is dark stays as it is");
    }

    #[test]
    fn greys_of_hlg_are_as_bright_as_they_are_meant() {
        let mapper = ToneMapper::new(TransferFunction::Hlg);
        let [black, grey, white, peak] = [0.0, 0.38, 0.75, 1.0].map(|code| of(&mapper, [code; 3])[0]);
        // BT.2408 table 1: the grey card (18 %, 26 nits) lies at 38 %, white at 75 %.
        assert_eq!((black, peak), (16, 235));
        assert!(grey.abs_diff(109) <= 2 && (205..=222).contains(&white), "{grey} {white}");
    }

    #[test]
    fn colours_that_bt709_has_stay_what_they_are() {
        // A skin tone, a leaf, a deep blue and the most saturated colours of BT.709, as coded in BT.2020 (their light by BT.2087
        // table 3) and in BT.709. The edges of what can be shown lie between points of the lattice.
        let cases = [
            ([0.50, 0.25, 0.15], 1),
            ([0.10, 0.35, 0.08], 1),
            ([0.02, 0.02, 0.30], 1),
            ([1.0, 0.0, 0.0], 8),
            ([0.0, 1.0, 0.0], 8),
            ([0.0, 0.0, 1.0], 8),
        ];
        let mapper = ToneMapper::new(TransferFunction::Sdr);
        for (light, within) in cases {
            let [r, g, b] = light.map(|v: f64| v.powf(1.0 / GAMMA));
            let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            let wanted =
                [16.0 + 219.0 * y, 128.0 + 224.0 * (b - y) / 1.8556, 128.0 + 224.0 * (r - y) / 1.5748].map(|v| v as u8);
            let [r, g, b] = light;
            let wide = [
                0.6274 * r + 0.3293 * g + 0.0433 * b,
                0.0691 * r + 0.9195 * g + 0.0114 * b,
                0.0164 * r + 0.0880 * g + 0.8956 * b,
            ];
            let found = of(&mapper, wide.map(|v| v.powf(1.0 / GAMMA)));
            assert!(found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= within), "{found:?} and not {wanted:?}");
        }
        for v in [0.0, 0.25, 0.5, 0.9, 1.0] {
            let [y, cb, cr] = of(&mapper, [v; 3]);
            let wanted = (16.0 + 219.0 * v) as u8;
            assert!(y.abs_diff(wanted) <= 1 && cb == 128 && cr == 128, "{v}: {y} {cb} {cr}");
        }
    }

    #[test]
    fn hues_that_bt709_lacks_are_still_told_apart() {
        let mapper = ToneMapper::new(TransferFunction::Hlg);
        let [red, green, blue] = [[0.7, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, 0.7]].map(|coded| of(&mapper, coded));
        assert!(red[2] > 180 && red[1] < 128, "{red:?}");
        assert!(green[1] < 100 && green[2] < 100, "{green:?}");
        assert!(blue[1] > 180 && blue[2] < 135, "{blue:?}");
    }

    proptest! {
        #[test]
        fn between_points_it_is_what_was_worked_out(coded in [0.2f64..0.8, 0.2f64..0.8, 0.2f64..0.8]) {
            // No colour so pure that one of BT.709's is next to none: there the table is coarser.
            let coded = coded.map(|v| 0.5 + 0.25 * (v - 0.5));
            let mapper = ToneMapper::new(TransferFunction::Sdr);
            let exact = mapped(TransferFunction::Sdr, codes(coded).map(f64::from)).map(|v| v / SCALE as i16);
            let found = of(&mapper, coded);
            prop_assert!(found.iter().zip(exact).all(|(a, b)| i16::from(*a).abs_diff(b) <= 2), "{found:?} {exact:?}");
        }

        #[test]
        fn any_codes_are_taken(y: u16, cb: u16, cr: u16) {
            let [y, cb, cr] = flat(&ToneMapper::new(TransferFunction::Pq(1000)), y, cb, cr);
            prop_assert!((16..=235).contains(&y) && (16..=240).contains(&cb) && (16..=240).contains(&cr));
        }
    }
}
