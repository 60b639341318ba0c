//! What becomes of an effect that a transaction staged: whether it is sent again.
//!
//! An effect is carried out at most once unless whoever staged it said that it may be repeated. So
//! one that was not sent is sent again, one whose fate is not known is not, and one that was
//! refused has had its answer.

use std::time::Duration;

use super::operation::{CallError, CallResult, Operation, Reply};
use super::refusal::Refusal;
use crate::base::limits::{
    EFFECT_DELAY, EFFECT_DELAY_MAX, EFFECT_TRIES_MAX, EFFECT_UNFIT_TRIES_MAX,
};

/// How one try ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It was done.
    Done,
    /// It was not: nobody was there to take it, or not at that moment.
    NotSent(String),
    /// It was not: the other side can't do what it is for, at that moment.
    Unfit(String),
    /// It was refused, and would be again.
    Refused(String),
    /// It was refused, or half done: the other side asks to be asked again.
    Busy(String),
    /// Nobody knows.
    Unknown(String),
}

/// What follows from that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is over, and was done.
    Done,
    /// It is sent again after this time, if the resource is there.
    Again(Duration),
    /// It is over, and was not done; why.
    Failed(String),
    /// It is over, and nobody knows whether it was done; why.
    Unknown(String),
}

impl Fate {
    /// The fate of an effect, by what the call that carried it out has come to.
    #[must_use]
    pub fn of(operation: &Operation, answer: CallResult) -> Self {
        let error = match answer {
            Ok(Reply::Http(answer)) if answer.status == 429 || answer.status >= 500 => {
                return Self::Busy(format!("status {}", answer.status));
            }
            Ok(Reply::Http(answer)) if answer.status >= 400 => {
                return Self::Refused(format!("status {}", answer.status));
            }
            Ok(_) => return Self::Done,
            Err(error) => error,
        };
        let is_http = matches!(operation, Operation::Http(_));
        match error {
            CallError::Refused { code, message } => {
                let why = format!("{code}: {message}");
                match (code.as_str(), Refusal::of(&code)) {
                    // As `wit/resources.wit` says.
                    ("lookup" | "connect", _) if is_http => Self::NotSent(why),
                    ("closed" | "no-http", _) if is_http => Self::Unknown(why),
                    (_, Refusal::Moment) => Self::NotSent(why),
                    (_, Refusal::Unfit) => Self::Unfit(why),
                    (_, Refusal::Final) => Self::Refused(why),
                }
            }
            CallError::Denied(why) => Self::Refused(why),
            CallError::NoSuchResource | CallError::WrongKind => {
                Self::Refused("the resource does not take it".to_owned())
            }
            CallError::Unavailable(why) | CallError::NotSent(why) => Self::NotSent(why),
            CallError::Full => Self::NotSent("too many calls wait".to_owned()),
            // The answer; what is asked was measured when it was staged.
            CallError::TooLarge(most) => Self::Unknown(format!("an answer over {most} bytes")),
            CallError::TimedOut => Self::Unknown("no answer in time".to_owned()),
            CallError::Died => Self::Unknown("the connection died".to_owned()),
        }
    }
}

/// What follows from the fate of the try with this number, from 1.
#[must_use]
pub fn verdict(fate: Fate, repeatable: bool, tries: u32) -> Verdict {
    let last = tries >= EFFECT_TRIES_MAX;
    let again = || Verdict::Again(delay(tries));
    match fate {
        Fate::Done => Verdict::Done,
        Fate::Refused(why) => Verdict::Failed(why),
        Fate::NotSent(_) if !last => again(),
        Fate::Unfit(_) if tries < EFFECT_UNFIT_TRIES_MAX => again(),
        Fate::Busy(_) | Fate::Unknown(_) if repeatable && !last => again(),
        Fate::NotSent(why) | Fate::Unfit(why) | Fate::Busy(why) => Verdict::Failed(why),
        Fate::Unknown(why) => Verdict::Unknown(why),
    }
}

/// The wait after so many tries: it doubles.
#[must_use]
pub fn delay(tries: u32) -> Duration {
    let doubled = EFFECT_DELAY.saturating_mul(1 << tries.saturating_sub(1).min(16));
    doubled.min(EFFECT_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::resource::operation::{HttpAnswer, HttpRequest};

    fn http() -> Operation {
        Operation::Http(HttpRequest::default())
    }

    fn redis() -> Operation {
        Operation::Redis(vec![b"PING".to_vec()])
    }

    fn status(status: u16) -> CallResult {
        Ok(Reply::Http(HttpAnswer { status, ..HttpAnswer::default() }))
    }

    fn refused(code: &str) -> CallResult {
        Err(CallError::Refused { code: code.to_owned(), message: "no".to_owned() })
    }

    #[test]
    fn what_was_perhaps_done_is_sent_again_only_if_it_may_be_repeated() {
        let text = || "x".to_owned();
        let failed = || Verdict::Failed(text());
        let again = || Verdict::Again(EFFECT_DELAY);
        // The fate, then what follows once and repeatable, then after the last try.
        let table = [
            (Fate::Done, Verdict::Done, Verdict::Done, Verdict::Done),
            (Fate::NotSent(text()), again(), again(), failed()),
            (Fate::Unfit(text()), again(), again(), Verdict::Again(delay(EFFECT_TRIES_MAX))),
            (Fate::Refused(text()), failed(), failed(), failed()),
            (Fate::Busy(text()), failed(), again(), failed()),
            (Fate::Unknown(text()), Verdict::Unknown(text()), again(), Verdict::Unknown(text())),
        ];
        for (fate, once, repeatable, last) in table {
            assert_eq!(verdict(fate.clone(), false, 1), once, "{fate:?}");
            assert_eq!(verdict(fate.clone(), true, 1), repeatable, "{fate:?}");
            for may in [false, true] {
                assert_eq!(verdict(fate.clone(), may, EFFECT_TRIES_MAX), last, "{fate:?}");
            }
        }
        let longest = verdict(Fate::Unfit(text()), false, EFFECT_UNFIT_TRIES_MAX);
        assert_eq!(longest, failed(), "others stand behind it");
    }

    #[test]
    fn an_answer_says_what_became_of_the_effect() {
        let kind = |operation: &Operation, answer: CallResult| match Fate::of(operation, answer) {
            Fate::Done => "done",
            Fate::NotSent(_) => "not sent",
            Fate::Unfit(_) => "unfit",
            Fate::Refused(_) => "refused",
            Fate::Busy(_) => "busy",
            Fate::Unknown(_) => "unknown",
        };
        let answers = [
            (status(200), "done"),
            (status(302), "done"),
            (status(404), "refused"),
            (status(429), "busy"),
            (status(503), "busy"),
            (refused("lookup"), "not sent"),
            (refused("connect"), "not sent"),
            (refused("closed"), "unknown"),
            (refused("no-http"), "unknown"),
            (Err(CallError::Denied("no rule".to_owned())), "refused"),
            (Err(CallError::TimedOut), "unknown"),
        ];
        for (answer, expected) in answers {
            assert_eq!(kind(&http(), answer.clone()), expected, "{answer:?}");
        }
        // A server of Redis may have words of its own.
        assert_eq!(kind(&redis(), refused("connect")), "refused");
        assert_eq!(kind(&redis(), refused("ERR")), "refused");
        assert_eq!(kind(&redis(), refused("LOADING")), "unfit");
        assert_eq!(kind(&redis(), refused("40001")), "not sent");
        assert_eq!(kind(&redis(), Err(CallError::NotSent("x".to_owned()))), "not sent");
        assert_eq!(kind(&redis(), Err(CallError::Died)), "unknown");
        assert_eq!(kind(&redis(), Err(CallError::TooLarge(1))), "unknown");
        assert_eq!(kind(&redis(), Ok(Reply::Done)), "done");
    }

    #[test]
    fn waits_double_and_have_an_end() {
        assert_eq!(delay(1), EFFECT_DELAY);
        assert_eq!(delay(3), EFFECT_DELAY * 4);
        assert_eq!(delay(u32::MAX), EFFECT_DELAY_MAX);
    }
}
