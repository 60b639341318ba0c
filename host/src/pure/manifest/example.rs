//! The least manifest that a guest needs which can't run alone.

use std::fmt::Write as _;

/// A manifest for a daemon whose guest needs these resources. What kind they are the guest doesn't
/// say, so they are a Redis.
#[must_use]
pub fn example(daemon: &str, needs: &[&str]) -> String {
    let mut text = format!("[service]\nname = \"{daemon}\"\n");
    for name in needs {
        // Writing to a text can't fail.
        let _written = write!(
            text,
            "\n[resources.{name}]\n\
             provider = \"redis\"           # or postgres, http, directory, config\n\
             url = \"redis://127.0.0.1:6379\"\n"
        );
    }
    let uses: Vec<String> = needs.iter().map(|name| format!("\"{name}\"")).collect();
    let uses = uses.join(", ");
    let _written =
        write!(text, "\n[daemons.{daemon}]\nguest = \"{daemon}.wasm\"\nuses = [{uses}]\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::manifest::{Given, bind, parse};

    #[test]
    fn it_is_a_manifest_for_any_daemon_and_its_resources() {
        for (daemon, needs) in [("limits", &["cache"][..]), ("a-1_B", &["2", "x-y", "z_"])] {
            let text = example(daemon, needs);
            let bound = bind(&parse(text.as_bytes()), &Given::default()).unwrap();
            assert_eq!(bound.resources.len(), needs.len(), "{text}");
            assert_eq!(bound.daemons.len(), 1, "{text}");
        }
    }
}
