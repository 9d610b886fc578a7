//! One track: what waits in it, in decoding order.

use crate::access_unit::AccessUnit;
use ipc::demux::Event;
use media::KeyframeGate;
use model::Kind;
use std::collections::VecDeque;
use timing::decode_order::DecodeOrder;

/// How much later than another a stream has to begin, at least, to be taken for the one that follows it (nanoseconds). Tracks of one
/// programme begin closer together.
const MIN_LATER: i64 = 100_000_000;
/// How much is kept of a track that is not played yet (nanoseconds, bytes): what a demultiplexer gives of a new stream before it ends
/// the one before (seen with `oggdemux`: some packets), and a GOP.
const MAX_SPARE: i64 = 2_000_000_000;
const MAX_SPARE_BYTES: usize = 1 << 20;

/// What waits in a track.
#[derive(Debug)]
pub(crate) enum Item {
    /// The configuration of what follows: an [`Event`] of that kind.
    Config(Event),
    /// An access unit; `dts` in nanoseconds. `after_gap`: the first since the source was joined again.
    Unit { dts: i64, unit: AccessUnit, after_gap: bool },
}

/// What is known of a track when it is added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackInfo {
    pub(crate) kind: Kind,
    /// Whether its frames may come in another order than they are shown.
    pub(crate) reordered: bool,
    /// Whether its source is live.
    pub(crate) live: bool,
}

#[derive(Debug)]
pub(super) struct Track {
    info: TrackInfo,
    /// What makes it better than another of its kind: pixels, or channels times rate.
    rank: u64,
    /// Its newest configuration.
    config: Option<Event>,
    /// It has come to its end.
    pub(super) ended: bool,
    /// Its stream has ended. Another of its kind may follow, in this track or in another one.
    pub(super) released: bool,
    /// It was added after the choice was made.
    pub(super) late: bool,
    /// The DTS of the first and of the last access unit of its stream.
    span_of_stream: Option<(i64, i64)>,
    /// The track in whose place it is to be played, until something of it comes.
    pub(super) stands_in_for: Option<usize>,
    items: VecDeque<Item>,
    order: DecodeOrder<AccessUnit>,
    /// Bytes of all access units in `items`.
    bytes: usize,
    /// The source was joined again, and nothing came since.
    after_gap: bool,
    /// Of live video: closed after an access unit was dropped.
    gate: KeyframeGate,
}

impl Track {
    pub(super) fn new(info: TrackInfo) -> Self {
        let order = DecodeOrder::new(info.reordered, info.live);
        let items = VecDeque::new();
        let gate = KeyframeGate::before_decoder().opened();
        Self {
            info,
            rank: 0,
            config: None,
            ended: false,
            released: false,
            late: false,
            span_of_stream: None,
            stands_in_for: None,
            items,
            order,
            bytes: 0,
            after_gap: false,
            gate,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.info.kind
    }

    pub(super) fn rank(&self) -> u64 {
        self.rank
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another stream goes on in it.
    pub(super) fn adopt(&mut self) {
        (self.released, self.late, self.span_of_stream) = (false, true, None);
    }

    /// Whether its stream may be the one that follows that of `other`. One that began along with it is another language.
    pub(super) fn follows(&self, other: &Self) -> bool {
        match (self.span_of_stream, other.span_of_stream) {
            (Some((begin, _)), Some((first, last))) => begin - first > MIN_LATER.max((last - first) / 2),
            _ => true,
        }
    }

    /// Whether its configuration is known.
    pub(super) fn is_configured(&self) -> bool {
        self.config.is_some()
    }

    pub(super) fn configure(&mut self, config: Event, rank: u64) {
        self.config = Some(config.clone());
        self.rank = self.rank.max(rank);
        self.flush();
        self.items.push_back(Item::Config(config));
    }

    /// The same for a track that is not played: what came before is of no use any more.
    pub(super) fn configure_spare(&mut self, config: Event, rank: u64) {
        self.clear();
        self.configure(config, rank);
    }

    /// Takes an access unit of a track that is not played yet, and keeps the newest of them: another stream may give way to this one, and
    /// what has come by then is played.
    pub(super) fn push_spare(&mut self, unit: AccessUnit) {
        self.push(unit);
        while self.bytes > MAX_SPARE_BYTES || self.span() > MAX_SPARE {
            self.drop_first();
            while self.items.iter().find_map(Item::key) == Some(false) {
                self.drop_first();
            }
        }
    }

    fn drop_first(&mut self) {
        let first = self.items.iter().position(|item| item.dts().is_some());
        if let Some(item) = first.and_then(|at| self.items.remove(at)) {
            self.bytes -= item.bytes();
        }
    }

    /// It is played from now on: its configuration comes first.
    pub(super) fn play(&mut self) {
        if !matches!(self.items.front(), Some(Item::Config(_)))
            && let Some(config) = self.config.clone()
        {
            self.items.push_front(Item::Config(config));
        }
    }

    /// Whether the next access unit of a live source is to be taken; `full`: there is no room for it. Once one of video is dropped,
    /// all up to the next key frame are.
    pub(super) fn admits(&mut self, key: bool, full: bool) -> bool {
        if full {
            self.gate.close();
        }
        !full && (self.info.kind == Kind::Audio || self.gate.admits(key))
    }

    /// Takes an access unit; gives the DTS of the last that is ready.
    pub(super) fn push(&mut self, unit: AccessUnit) -> Option<i64> {
        self.stands_in_for = None;
        let ready = self.order.push(unit.pts, unit.dts, unit);
        let last = ready.last().map(|(dts, _)| *dts);
        if let Some(last) = last {
            let first = self.span_of_stream.map_or(last, |(first, _)| first);
            self.span_of_stream = Some((first, last));
        }
        self.append(ready);
        last
    }

    pub(super) fn end(&mut self) {
        self.flush();
        self.ended = true;
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        if let Some(Item::Unit { unit, .. }) = &item {
            self.bytes -= unit.data.len();
        }
        item
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        drop(self.order.flush());
        self.items.clear();
        self.bytes = 0;
    }

    /// Drops all access units, also those not in order yet: what follows is from another place of the file.
    pub(super) fn restart(&mut self) {
        self.order = DecodeOrder::new(self.info.reordered, self.info.live);
        self.items.retain(|item| matches!(item, Item::Config(_)));
        self.bytes = 0;
        self.ended = false;
    }

    /// The source was joined again: what comes next may be far after what came.
    pub(super) fn rejoined(&mut self) {
        self.flush();
        self.after_gap = true;
    }

    /// The DTS of the first access unit, if that comes after a gap.
    pub(super) fn first_after_gap(&self) -> Option<i64> {
        let first = self.items.iter().find(|item| item.dts().is_some())?;
        if let Item::Unit { dts, after_gap: true, .. } = first { Some(*dts) } else { None }
    }

    /// Drops what comes before the last key frame that is not after `at`, a DTS; if there is none, all that comes before `at`.
    pub(super) fn skip_to(&mut self, at: i64) {
        let is_key = |item: &Item| matches!(item, Item::Unit { dts, unit, .. } if unit.key && *dts <= at);
        let from = self.items.iter().rposition(is_key);
        let until = from.unwrap_or_else(|| {
            self.items.iter().position(|item| item.dts().is_some_and(|dts| dts > at)).unwrap_or(self.items.len())
        });
        let dropped = self.items.drain(..until).collect::<Vec<_>>();
        self.bytes -= dropped.iter().map(Item::bytes).sum::<usize>();
        let configs = dropped.into_iter().filter(|item| matches!(item, Item::Config(_)));
        configs.rev().for_each(|config| self.items.push_front(config));
        // The gap is still before what is left.
        match self.items.iter_mut().find(|item| item.dts().is_some()) {
            Some(Item::Unit { after_gap, .. }) => *after_gap = true,
            _ => self.after_gap = true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The DTS of the first access unit.
    pub(super) fn first(&self) -> Option<i64> {
        self.items.iter().find_map(Item::dts)
    }

    /// How far the last access unit is behind the first, in nanoseconds.
    pub(super) fn span(&self) -> i64 {
        let last = self.items.iter().rev().find_map(Item::dts);
        last.zip(self.first()).map_or(0, |(last, first)| last - first)
    }

    fn flush(&mut self) {
        let held = self.order.flush();
        self.append(held);
    }

    fn append(&mut self, units: Vec<(i64, AccessUnit)>) {
        for (dts, unit) in units {
            self.bytes += unit.data.len();
            let after_gap = std::mem::take(&mut self.after_gap);
            self.items.push_back(Item::Unit { dts, unit, after_gap });
        }
    }
}

impl Item {
    fn dts(&self) -> Option<i64> {
        match self {
            Self::Unit { dts, .. } => Some(*dts),
            Self::Config(_) => None,
        }
    }

    fn key(&self) -> Option<bool> {
        if let Self::Unit { unit, .. } = self { Some(unit.key) } else { None }
    }

    fn bytes(&self) -> usize {
        if let Self::Unit { unit, .. } = self { unit.data.len() } else { 0 }
    }
}
