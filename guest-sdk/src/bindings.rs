//! The component's raw bindings, generated from the world.

#![expect(clippy::too_many_arguments, reason = "the canonical ABI passes records flat")]

wit_bindgen::generate!({
    path: "../wit",
    world: "guest",
    pub_export_macro: true,
    // By hand, in the module `call`.
    skip: ["call"],
    default_bindings_module: "::guest_sdk::__private::bindings",
    // A guest has no static constructors: wasi-libc sets itself up when it is first asked.
    disable_run_ctors_once_workaround: true,
});
