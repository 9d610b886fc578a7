//! From the OpenMetrics text that the client library writes to Prometheus's own text format 0.0.4, which every scraper takes.
//!
//! OpenMetrics asks that counters end in `_total`; a series of the Go ingress doesn't, and a strict reader would refuse the whole
//! page. In 0.0.4 a series may have any name, but its TYPE and HELP must name the samples as they are written.

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renames types and headings; samples stay as they are.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    let mut kind = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            (help, kind) = (rest.split_once(' '), None);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.split_once(' ');
        } else if !line.starts_with('#') && !line.is_empty() {
            if let Some((name, open)) = kind.take() {
                heading(&mut out, name, open, help.take(), line);
            }
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// A heading for the sample that follows it.
fn heading(out: &mut String, name: &str, open: &str, help: Option<(&str, &str)>, sample: &str) {
    let kind = match open {
        "info" | "stateset" => "gauge",
        "unknown" => "untyped",
        same => same,
    };
    let suffix = match open {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let sample = sample.split(['{', ' ']).next().unwrap_or_default();
    let suffix = if sample.strip_prefix(name) == Some(suffix) { suffix } else { "" };
    if let Some((_, help)) = help {
        out.push_str(&format!("# HELP {name}{suffix} {}\n", help.trim_end_matches('.')));
    }
    out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_name_the_samples() {
        let open = "\
# HELP a Some counter.
# TYPE a counter
a_total{x=\"1\"} 1
# HELP b Another.
# TYPE b counter
b{x=\"# TYPE\"} 2
# HELP c_seconds Time.
# TYPE c_seconds histogram
# UNIT c_seconds seconds
c_seconds_sum 1.0
c_seconds_bucket{le=\"+Inf\"} 1
# HELP d Nothing yet.
# TYPE d counter
# HELP e About.
# TYPE e info
e_info{v=\"1\"} 1
# HELP f Odd.
# TYPE f unknown
f 1
# EOF
";
        let prometheus = "\
# HELP a_total Some counter
# TYPE a_total counter
a_total{x=\"1\"} 1
# HELP b Another
# TYPE b counter
b{x=\"# TYPE\"} 2
# HELP c_seconds Time
# TYPE c_seconds histogram
c_seconds_sum 1.0
c_seconds_bucket{le=\"+Inf\"} 1
# HELP e_info About
# TYPE e_info gauge
e_info{v=\"1\"} 1
# HELP f Odd
# TYPE f untyped
f 1
";
        assert_eq!(from_open_metrics(open), prometheus);
    }
}
