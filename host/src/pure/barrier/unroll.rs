//! Repeats the bodies of small innermost loops that store.
//!
//! A loop that writes an array marks a card per turn, although the address moves by a few bytes.
//! With the body repeated, one mark serves several turns. And the engine looks at fuel and epoch at
//! the head of a loop, hence once per several turns, which pays for much of the marking.
//!
//! ```text
//!  loop             loop
//!    body             block                       outward branches go 2 further
//!  end                  block
//!                         body; br 1              `continue` leaves the inner block: next copy
//!                       end
//!                       body                      `continue` is a turn of the loop; outward 1 more
//!                     end
//!                   end
//! ```
//!
//! Falling out of any copy's end is falling out of the loop's. Nothing else changes: the same
//! instructions run in the same order.

use wasmparser::{BlockType, Operator};

/// Copies of a body.
const COPIES: usize = 4;

/// Operators of all copies of a body together: more would cost the instruction cache more than the
/// marks cost.
const OPERATORS_MAX: usize = 400;

/// Operators that are added to one function at most, so that a stranger's code can't swell.
const ADDED_MAX: usize = 20_000;

/// An operator with its bytes, if they are still right.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    pub(super) operator: Operator<'a>,
    pub(super) raw: Option<&'a [u8]>,
}

impl<'a> Step<'a> {
    fn new(operator: Operator<'a>) -> Self {
        Self { operator, raw: None }
    }
}

/// Repeats the bodies of the loops of a function that are worth it.
pub(super) fn unroll<'a>(
    steps: Vec<Step<'a>>,
    stores: impl Fn(&Operator<'a>) -> bool,
) -> Vec<Step<'a>> {
    let loops = candidates(&steps, stores);
    if loops.is_empty() {
        return steps;
    }
    let mut unrolled = Vec::with_capacity(steps.len() * 2);
    let (mut at, mut added) = (0, 0);
    for (head, end) in loops {
        let body = steps.get(head + 1..end).unwrap_or_default();
        let copies = (OPERATORS_MAX / body.len().max(1)).min(COPIES);
        added += copies * body.len();
        if added > ADDED_MAX {
            break;
        }
        unrolled.extend(steps.get(at..=head).unwrap_or_default().iter().cloned());
        repeat(&mut unrolled, body, copies);
        at = end;
    }
    unrolled.extend(steps.get(at..).unwrap_or_default().iter().cloned());
    unrolled
}

/// Positions of head and end of the innermost loops that store and can be repeated.
fn candidates<'a>(
    steps: &[Step<'a>],
    stores: impl Fn(&Operator<'a>) -> bool,
) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    // For each open block: where it begins if it is a loop that is still a candidate.
    let mut open: Vec<Option<usize>> = Vec::new();
    // The innermost open loop: nesting, and whether it stores and can be repeated.
    let mut innermost: Option<(usize, bool, bool)> = None;
    for (position, step) in steps.iter().enumerate() {
        match &step.operator {
            Operator::Loop { blockty } => {
                open.push(Some(position));
                innermost = Some((open.len(), false, *blockty == BlockType::Empty));
            }
            Operator::Block { .. } | Operator::If { .. } => open.push(None),
            Operator::End => {
                let closes = innermost.is_some_and(|(nesting, ..)| nesting == open.len());
                let head = open.pop().flatten();
                if let (true, Some(head), Some((_, true, true))) = (closes, head, innermost)
                    && (position - head) * 2 <= OPERATORS_MAX
                {
                    found.push((head, position));
                }
                if closes {
                    // The loops around it are not innermost.
                    innermost = None;
                }
            }
            // Its targets can't be written anew.
            Operator::BrTable { .. } => {
                if let Some((_, _, can)) = &mut innermost {
                    *can = false;
                }
            }
            operator => {
                if let Some((_, does, _)) = &mut innermost {
                    *does |= stores(operator);
                }
            }
        }
    }
    found
}

fn repeat<'a>(unrolled: &mut Vec<Step<'a>>, body: &[Step<'a>], copies: usize) {
    let block = || Step::new(Operator::Block { blockty: BlockType::Empty });
    unrolled.push(block());
    for copy in 1..=copies {
        let last = copy == copies;
        if !last {
            unrolled.push(block());
        }
        // In the body's own terms: how much further the loop and what is around it are.
        let (to_loop, outward) = if last { (1, 1) } else { (0, 2) };
        let mut nesting = 0_u32;
        for step in body {
            let move_target = |depth: u32| match depth.cmp(&nesting) {
                std::cmp::Ordering::Less => depth,
                std::cmp::Ordering::Equal => depth + to_loop,
                std::cmp::Ordering::Greater => depth + outward,
            };
            match step.operator {
                Operator::Br { relative_depth } => {
                    let relative_depth = move_target(relative_depth);
                    unrolled.push(Step::new(Operator::Br { relative_depth }));
                }
                Operator::BrIf { relative_depth } => {
                    let relative_depth = move_target(relative_depth);
                    unrolled.push(Step::new(Operator::BrIf { relative_depth }));
                }
                _ => unrolled.push(step.clone()),
            }
            match step.operator {
                Operator::Block { .. } | Operator::If { .. } => nesting += 1,
                Operator::End => nesting = nesting.saturating_sub(1),
                _ => {}
            }
        }
        if !last {
            unrolled.push(Step::new(Operator::Br { relative_depth: 1 }));
            unrolled.push(Step::new(Operator::End));
        }
    }
    unrolled.push(Step::new(Operator::End));
}
