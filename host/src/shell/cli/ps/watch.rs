//! `host ps --watch`: the same again and again.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::base::limits::PS_WATCH_MIN;
use crate::shell::exit;
use crate::shell::signals::end_by_interrupt;

/// Shows a frame every `interval`, over the last one on a terminal, until there is none, nobody
/// reads them, or Ctrl-C.
pub(super) fn watch(interval: Duration, mut frame: impl FnMut() -> Result<String, u8>) -> u8 {
    if let Err(error) = end_by_interrupt(exit::DONE) {
        tracing::debug!(%error, "Ctrl-C ends it without its exit code");
    }
    let terminal = io::stdout().is_terminal();
    let mut first = true;
    loop {
        let text = match frame() {
            Ok(text) => text,
            Err(code) => return code,
        };
        if show(&mut io::stdout().lock(), &text, terminal, first).is_err() {
            return exit::DONE;
        }
        first = false;
        std::thread::sleep(interval.max(PS_WATCH_MIN));
    }
}

fn show(out: &mut impl Write, text: &str, terminal: bool, first: bool) -> io::Result<()> {
    if !terminal {
        writeln!(out, "{text}")?;
        return out.flush();
    }
    // Each line is written over the old one and then cut, so that nothing flickers.
    let mut frame = String::from(if first { "\x1b[2J\x1b[H" } else { "\x1b[H" });
    for line in text.lines() {
        frame.push_str(line);
        frame.push_str("\x1b[K\n");
    }
    frame.push_str("\x1b[J");
    out.write_all(frame.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_33_frames_are_drawn_over_each_other_on_terminals_only() {
        let shown = |terminal: bool| {
            let mut out = Vec::new();
            show(&mut out, "a\nb", terminal, true).unwrap();
            show(&mut out, "c", terminal, false).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(false), "a\nb\nc\n");
        let (clear, home, end) = ("\x1b[2J\x1b[H", "\x1b[H", "\x1b[J");
        let expected = format!("{clear}a\x1b[K\nb\x1b[K\n{end}{home}c\x1b[K\n{end}");
        assert_eq!(shown(true), expected);
    }
}
