//! `host inspect`: what a guest's file is, and whether it may run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::deploy::{CompileArgs, deploy, sandbox};
use super::failure::with_remedy;
use super::{Output, print, start_log, tell_fault};
use crate::base::error::{Fault, printable};
use crate::mechanisms::sandbox::Guest;
use crate::pure::contract::Contract;
use crate::pure::request::fault_json;
use crate::pure::size::show_bytes;
use crate::pure::upgrade::NO_FORM;
use crate::shell::exit;

#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 admissible, 1 not admissible, 2 wrong usage.")]
pub(super) struct InspectArgs {
    /// The guest's file
    #[arg(value_name = "GUEST.wasm")]
    guest: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    compile: CompileArgs,
}

pub(super) fn inspect(args: &InspectArgs) -> u8 {
    start_log("warn");
    let inspected =
        sandbox(&args.compile, Arc::default()).and_then(|sandbox| deploy(&sandbox, &args.guest));
    match (inspected, args.output) {
        (Ok(guest), Output::Human) => {
            print(&describe(&args.guest, &guest));
            exit::DONE
        }
        (Ok(guest), Output::Json) => {
            print(&describe_json(&guest).to_string());
            exit::DONE
        }
        (Err(fault), output) => {
            if output == Output::Json {
                print(&refused_json(&fault).to_string());
            }
            tell_fault(&fault);
            exit::FAILED
        }
    }
}

fn refused_json(fault: &Fault) -> Value {
    json!({ "admissible": false, "error": with_remedy(fault_json(fault)) })
}

fn describe_json(guest: &Guest) -> Value {
    let facts = guest.facts();
    let imports = facts.imports.iter().filter(|import| !import.functions.is_empty());
    json!({
        "admissible": true,
        "digest": facts.digest.to_hex().to_string(),
        "file_bytes": facts.file_bytes,
        "rewritten_bytes": facts.rewritten_bytes,
        "core_modules": facts.core_modules,
        "functions": facts.functions,
        "memory_minimum_bytes": facts.memory_minimum_bytes,
        "memory_maximum_bytes": facts.memory_maximum_bytes,
        "data_bytes": facts.data_bytes,
        "hooks": {
            "recover": guest.hooks().recover,
            "on_restore": guest.hooks().on_restore,
            "on_stale": guest.hooks().on_stale,
            "shutdown": guest.hooks().shutdown,
        },
        "upgrade_version": guest.upgrade(),
        "imports": imports
            .map(|import| json!({ "interface": import.name, "functions": import.functions }))
            .collect::<Vec<_>>(),
        "contracts": guest.contracts().iter().map(contract_json).collect::<Vec<_>>(),
    })
}

fn contract_json(contract: &Contract) -> Value {
    let arguments = contract.arguments.iter().map(|argument| {
        json!({
            "name": argument.name,
            "required": argument.required,
            "schema": argument.schema.json,
        })
    });
    json!({
        "name": contract.name,
        "documentation": contract.documentation,
        "read_only": contract.read_only,
        "needs": contract.needs,
        "arguments": arguments.collect::<Vec<_>>(),
        "result": contract.result.json,
    })
}

fn describe(path: &Path, guest: &Guest) -> String {
    let facts = guest.facts();
    let size = |bytes: u64| show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut lines = vec![
        format!("{}: admissible", path.display()),
        format!("  digest    {}", facts.digest.to_hex()),
        format!(
            "  code      {} ({} with the write barrier), {} functions in {} core modules",
            show_bytes(facts.file_bytes),
            show_bytes(facts.rewritten_bytes),
            facts.functions,
            facts.core_modules
        ),
        format!(
            "  memory    {} at the start, {} of it data; at most {}",
            size(facts.memory_minimum_bytes),
            size(facts.data_bytes),
            facts.memory_maximum_bytes.map_or("its budget".to_owned(), size)
        ),
    ];
    let has = guest.hooks();
    let hooks = [
        (has.recover, "recover"),
        (has.on_restore, "on-restore"),
        (has.on_stale, "on-stale"),
        (has.shutdown, "shutdown"),
    ];
    let hooks: Vec<&str> = hooks.iter().filter(|hook| hook.0).map(|hook| hook.1).collect();
    lines.push(format!(
        "  hooks     {}",
        if hooks.is_empty() { "none".to_owned() } else { hooks.join(", ") }
    ));
    lines.push(match guest.upgrade() {
        Some(version) => format!("  upgrade   possible; its state is at version {version}"),
        None => format!("  upgrade   not possible: {NO_FORM}"),
    });
    lines.push("  imports".to_owned());
    for import in facts.imports.iter().filter(|import| !import.functions.is_empty()) {
        lines.push(format!("    {}: {}", import.name, import.functions.join(", ")));
    }
    lines.push("  contracts".to_owned());
    for contract in guest.contracts() {
        lines.extend(describe_contract(contract));
    }
    lines.join("\n")
}

fn describe_contract(contract: &Contract) -> Vec<String> {
    let arguments: Vec<String> = contract
        .arguments
        .iter()
        .map(|argument| {
            let optional = if argument.required { "" } else { "?" };
            format!("{}{optional}: {}", argument.name, type_name(&argument.schema.json))
        })
        .collect();
    let kind = if contract.read_only { "read-only" } else { "transaction" };
    let (name, arguments) = (&contract.name, arguments.join(", "));
    let result = type_name(&contract.result.json);
    let needs = match contract.needs.as_slice() {
        [] => String::new(),
        needs => format!(", needs {}", needs.join(", ")),
    };
    let mut lines = vec![format!("    {name}({arguments}) -> {result}   [{kind}{needs}]")];
    for line in contract.documentation.lines().map(str::trim).filter(|line| !line.is_empty()) {
        lines.push(format!("        {}", printable(line, 200)));
    }
    lines
}

/// A short name of a type; the whole schema is in the JSON output.
fn type_name(schema: &Value) -> String {
    let of = |schema: &Value, name: &str| schema.get(name).cloned().unwrap_or(Value::Null);
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return printable(&values.join("|"), 80);
    }
    let name = match of(schema, "type") {
        Value::String(name) => match (name.as_str(), schema.get("items")) {
            ("array", Some(items)) => format!("[{}]", type_name(items)),
            _ => match schema.get("format").or_else(|| schema.get("title")).and_then(Value::as_str)
            {
                Some(title) => title.to_owned(),
                None => name,
            },
        },
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join("|")
        }
        _ => match schema.get("title").and_then(Value::as_str) {
            Some(title) => title.to_owned(),
            None => variants(schema).unwrap_or_else(|| "any".to_owned()),
        },
    };
    printable(&name, 80)
}

/// What a value may be one of: the names of an enum's variants, or types.
fn variants(schema: &Value) -> Option<String> {
    let parts = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let name = |part: &Value| {
        let tag = part.get("required").and_then(Value::as_array).map(Vec::as_slice);
        match (part.get("const").and_then(Value::as_str), tag) {
            (Some(name), _) => name.to_owned(),
            (None, Some([only])) => only.as_str().unwrap_or("any").to_owned(),
            (None, _) => type_name(part),
        }
    };
    Some(parts.iter().map(name).collect::<Vec<_>>().join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_short_names() {
        for (schema, name) in [
            (json!({"type": "string"}), "string"),
            (json!({"type": "integer", "format": "uint64"}), "uint64"),
            (json!({"type": "array", "items": {"type": "boolean"}}), "[boolean]"),
            (json!({"type": ["integer", "null"]}), "integer|null"),
            (json!({"type": "object", "title": "Receipt"}), "Receipt"),
            (json!(true), "any"),
            (json!({"type": "string", "enum": ["Red", "Blue"]}), "Red|Blue"),
            (
                json!({"oneOf": [
                    {"type": "string", "const": "Red"},
                    {"type": "object", "properties": {"Mixed": {}}, "required": ["Mixed"]},
                ]}),
                "Red|Mixed",
            ),
            (
                json!({"anyOf": [{"title": "Colour", "type": "string"}, {"type": "null"}]}),
                "Colour|null",
            ),
        ] {
            assert_eq!(type_name(&schema), name);
        }
    }
}
