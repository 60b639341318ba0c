//! The export `call`, by hand.
//!
//! Every transaction comes through here. Generated bindings would allocate each reply, shrink it to
//! its size, and free it in one more call by the host; here the reply is written to a buffer that
//! is used again, and stays in it until the next call.

use std::cell::RefCell;

use crate::component::{Stateful, with_guest};
use crate::guest::CallError;

/// A buffer that once held more is not kept: most replies are small, and memory is the state.
const REPLY_BYTES_KEPT: usize = 64 * 1024;

/// `result<list<u8>, call-error>` in the canonical ABI: each field takes a word of 32 bits,
/// discriminants the low byte of theirs.
type Words = [usize; 9];

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last::new()) };
}

/// What the host was last answered; it reads it after the call has returned.
struct Last {
    reply: Vec<u8>,
    error: Option<CallError>,
    words: Words,
}

impl Last {
    const fn new() -> Self {
        Self { reply: Vec::new(), error: None, words: [0; 9] }
    }

    fn run<G: Stateful>(&mut self, contract: u32, arguments: &[u8]) {
        self.reply.clear();
        if self.reply.capacity() > REPLY_BYTES_KEPT {
            self.reply = Vec::new();
        }
        let result = with_guest(|guest: &mut G| guest.call(contract, arguments, &mut self.reply));
        self.error = result.err();
        self.words = self.lower();
    }

    fn lower(&self) -> Words {
        let Some(error) = &self.error else {
            let (at, length) = place_of(&self.reply);
            return [0, at, length, 0, 0, 0, 0, 0, 0];
        };
        match error {
            CallError::Rejected(rejection) => {
                let (code_at, code_length) = place_of(rejection.code().as_bytes());
                let (message_at, message_length) = place_of(rejection.message().as_bytes());
                let (some, (details_at, details_length)) = match rejection.encoded_details() {
                    Some(details) => (1, place_of(details)),
                    None => (0, (0, 0)),
                };

                [
                    1,
                    0,
                    code_at,
                    code_length,
                    message_at,
                    message_length,
                    some,
                    details_at,
                    details_length,
                ]
            }
            CallError::BadArguments(message) => {
                let (at, length) = place_of(message.as_bytes());
                [1, 1, at, length, 0, 0, 0, 0, 0]
            }
            CallError::UnknownContract => [1, 2, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Pointer and length, as the canonical ABI passes lists and strings.
fn place_of(bytes: &[u8]) -> (usize, usize) {
    (bytes.as_ptr().expose_provenance(), bytes.len())
}

/// Runs one transaction and answers where its result is.
///
/// # Safety
///
/// `arguments` is what `cabi_realloc` answered for `length` bytes of alignment 1, and is given
/// away.
#[expect(unsafe_code, reason = "the canonical ABI passes pointers")]
pub unsafe fn call<G: Stateful>(contract: u32, arguments: *mut u8, length: usize) -> *const usize {
    // SAFETY: `cabi_realloc` allocates from the same allocator as `Vec`; the rest is the caller's
    // word.
    let arguments = unsafe { Vec::from_raw_parts(arguments, length, length) };
    LAST.with_borrow_mut(|last| {
        last.run::<G>(contract, &arguments);
        last.words.as_ptr()
    })
}
