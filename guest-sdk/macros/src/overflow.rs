//! Whether the compiler that runs this macro checks arithmetic for overflow.
//!
//! There is no `cfg` for it that a stable compiler shows, but a macro runs in the compiler's own
//! process, and so can read its command line. What it can't read it says nothing about.

/// A codegen option of rustc that may be on or off.
fn is_on(value: Option<&str>) -> bool {
    !matches!(value, Some("n" | "no" | "off" | "false"))
}

/// Reads rustc's command line: whether it builds for wasm without overflow checks.
pub(crate) fn left_out(words: impl IntoIterator<Item = String>) -> bool {
    let mut words = words.into_iter();
    let (mut wasm, mut is_compiler) = (false, false);
    let (mut overflow, mut debug, mut optimized) = (None, None, false);
    while let Some(word) = words.next() {
        // `-C name=value`, `-Cname=value`, `--codegen name=value`, `--codegen=name=value`.
        let option = match word.as_str() {
            // More words are in a file.
            file if file.starts_with('@') => return false,
            "--crate-name" => {
                is_compiler = true;
                continue;
            }
            "--target" => {
                wasm = words.next().is_some_and(|target| target.starts_with("wasm"));
                continue;
            }
            "-O" => {
                optimized = true;
                continue;
            }
            "-C" | "--codegen" => words.next().unwrap_or_default(),
            other => {
                if let Some(target) = other.strip_prefix("--target=") {
                    wasm = target.starts_with("wasm");
                    continue;
                }
                let option = other.strip_prefix("--codegen=").or_else(|| other.strip_prefix("-C"));
                let Some(option) = option else { continue };
                option.to_owned()
            }
        };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option.as_str(), None),
        };
        match name.replace('_', "-").as_str() {
            "overflow-checks" => overflow = Some(is_on(value)),
            "debug-assertions" => debug = Some(is_on(value)),
            "opt-level" => optimized = value != Some("0"),
            _ => {}
        }
    }
    // As rustc decides: checks follow the assertions, and those the optimization.
    let checked = overflow.or(debug).unwrap_or(!optimized);
    is_compiler && wasm && !checked
}

/// What to do about it.
pub(crate) const LEFT_OUT: &str = "\
this build leaves out the overflow checks that the guest's tests have: where they panic, `5 - 6` \
of a `u64` would be committed as 18446744073709551615. Build with `host build`, or put \
`overflow-checks = true` under the profile (`[profile.release]`, `[profile.guest]`) in the \
workspace's Cargo.toml. What is to wrap says so: `wrapping_sub`, `std::num::Wrapping`";

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out_by(words: &str) -> bool {
        left_out(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn each_way_to_ask_for_overflow_checks_is_understood() {
        let wasm = "rustc --crate-name x --target wasm32-wasip2 src/lib.rs";
        for (words, expected) in [
            ("-C opt-level=3", true),
            ("-Copt-level=3", true),
            ("-O", true),
            ("--codegen opt-level=s", true),
            ("--codegen=opt-level=z", true),
            ("", false),
            ("-C opt-level=0", false),
            ("-C opt-level=3 -C overflow-checks=on", false),
            ("-C opt-level=3 -C overflow-checks", false),
            ("-C opt-level=3 -Coverflow-checks=yes", false),
            ("-C opt-level=3 -C overflow_checks=y", false),
            ("-C opt-level=3 -C debug-assertions=on", false),
            ("-C opt-level=3 -C debug-assertions=on -C overflow-checks=off", true),
            ("-C overflow-checks=off", true),
            ("-C opt-level=3 -C overflow-checks=off -C overflow-checks=on", false),
            ("-C opt-level=3 -C overflow-checks=on -Coverflow-checks=n", true),
            ("-C opt-level=3 @more", false),
        ] {
            assert_eq!(left_out_by(&format!("{wasm} {words}")), expected, "{words}");
        }
    }

    #[test]
    fn what_is_no_compiler_for_wasm_is_left_alone() {
        for words in [
            "",
            "rust-analyzer-proc-macro-srv",
            "rustc --crate-name x -C opt-level=3",
            "rustc --crate-name x --target x86_64-unknown-linux-gnu -C opt-level=3",
            "other --target wasm32-wasip2 -C opt-level=3",
        ] {
            assert!(!left_out_by(words), "{words}");
        }
        assert!(left_out_by("rustc --crate-name x --target=wasm32-wasip2 -C opt-level=2"));
        assert!(left_out_by("clippy-driver rustc --crate-name x --target wasm32-wasip2 -O"));
    }
}
