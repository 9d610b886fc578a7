//! What a decoder complains of while it decodes. Decoders are told never to give up on broken media, and then say only in GStreamer's log
//! that what they make of it is damaged: their buffers come out all the same. The log's lines are heard here.
//!
//! A decoder runs in the thread that pushes into its [chain](crate::pad_chain), so a line belongs to the decoder of its thread.

use gstreamer as gst;
use std::cell::RefCell;
use std::sync::Once;

/// The log categories in which decoders complain, down to which level, and how the lines begin that tell of damage. FFmpeg's (`libav`)
/// errors all do but for [`HARMLESS`], and what it makes up for blocks that are missing it tells as information; the base classes of
/// other decoders say `error: …` for each access unit that fails.
const CATEGORIES: [(&str, gst::DebugLevel, &str); 4] = [
    ("libav", gst::DebugLevel::Error, ""),
    ("libav", gst::DebugLevel::Info, "concealing "),
    ("videodecoder", gst::DebugLevel::Warning, ERROR),
    ("audiodecoder", gst::DebugLevel::Warning, ERROR),
];

const ERROR: &str = "error: ";

/// Errors that FFmpeg logs for streams whose pictures come out whole: marking of references that are gone already, and side data.
/// Found by running all of `e2e/`.
const HARMLESS: [&str; 3] = ["mmco: unref short failure", "SEI type", "Late SEI"];

/// The longest complaint that is kept, in bytes.
const MAX_LENGTH: usize = 120;

thread_local! {
    /// The first complaint of this thread's decoder since it was last asked.
    static COMPLAINT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Hears the decoders of this process from now on. To be called again when a plugin has been loaded: its category is not there before.
pub fn hear() {
    static HEARING: Once = Once::new();
    HEARING.call_once(|| {
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            let name = category.name();
            for (_, _, start) in CATEGORIES.iter().filter(|(of, most, _)| *of == name && level <= *most) {
                if let Some(text) = message.get() {
                    complain(text.as_str(), start);
                }
            }
        });
        // Whoever debugs wants to read all of it; else a line for each damaged picture would fill the log.
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
        }
    });
    for (name, level, _) in CATEGORIES {
        if let Some(category) = gst::DebugCategory::get(name)
            && category.threshold() < level
        {
            category.set_threshold(level);
        }
    }
}

/// The first complaint of this thread's decoder since the last call.
pub fn take() -> Option<String> {
    COMPLAINT.with_borrow_mut(Option::take)
}

fn complain(text: &str, start: &str) {
    let text = text.trim();
    if !text.starts_with(start) {
        return;
    }
    let text = text.strip_prefix(ERROR).unwrap_or(text);
    if text.is_empty() || HARMLESS.iter().any(|harmless| text.contains(harmless)) {
        return;
    }
    COMPLAINT.with_borrow_mut(|complaint| {
        complaint.get_or_insert_with(|| {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text[..text.floor_char_boundary(MAX_LENGTH)].to_owned()
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_counts() {
        complain(" error while decoding MB 3 7, bytestream 12\n", "");
        complain("another", "");
        assert_eq!(take().as_deref(), Some("error while decoding MB 3 7, bytestream 12"));
        assert_eq!(take(), None);
        complain("mmco: unref short failure", "");
        complain("decoding took long", "error: ");
        complain("", "");
        assert_eq!(take(), None);
        complain("error: no frame\u{7}", "error: ");
        assert_eq!(take().as_deref(), Some("no frame "));
        complain(&"ä".repeat(500), "");
        assert_eq!(take().map(|t| t.len()), Some(MAX_LENGTH));
    }

    #[test]
    fn threads_do_not_hear_each_other() {
        std::thread::spawn(|| complain("mine", "")).join().unwrap();
        assert_eq!(take(), None);
    }
}
