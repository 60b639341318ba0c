//! The host one layer below its daemon: instance and images, to dirty any number of cards before a
//! crash, and to time single steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use host::base::ids::{Generation, RequestId};
use host::mechanisms::memory::{Changed, Images};
use host::mechanisms::sandbox::{
    CallContext, Called, Environment, Guest, Held, Instance, Limits, NoLog,
};
use host::pure::contract::Args;
use host::pure::pace::CpuShare;
use host::tree::Bound;
use serde_json::json;

use super::daemon::{Recovered, bind};
use super::{MIB, budget_for};

/// The guest `chaos`, without a daemon around it.
#[derive(Debug)]
pub struct Bare {
    guest: Arc<Guest>,
    images: Images,
    // Taken while it is replaced.
    instance: Option<Instance>,
    generation: Generation,
    context: CallContext,
}

/// The pages that `touch` can dirty.
pub const PAGES_MAX: u32 = 1024;

impl Bare {
    /// Starts the guest and lets it grow to an image of about that many bytes.
    ///
    /// # Panics
    ///
    /// When it doesn't start.
    #[must_use]
    pub fn chaos(guest: &Arc<Guest>, image_bytes: usize, pages: u32) -> Self {
        let budget = budget_for(image_bytes);
        let mut images = Images::new(budget, &guest.shape()).expect("memory for the images");
        let (log, outputs) = (Arc::new(NoLog), Arc::default());
        let environment = Environment::new(log, outputs, [1; 32], CpuShare::FULL, budget);
        let context =
            CallContext { request: RequestId(1), correlation: None, attempt: 1, unix_nanos: 0 };
        let generation = Generation::FIRST;
        // MessagePack's empty map: no parameters.
        let started =
            Instance::first(guest, &mut images, environment, &[0x80], generation, &context);
        let instance = Some(started.expect("the guest starts"));
        images.commit_whole();
        let mut bare = Self { guest: guest.clone(), images, instance, generation, context };
        let (touch, hold) = (bare.touch(pages), bare.bind("hold", json!({"mib": 1})));
        bare.call(&touch);
        bare.images.commit();
        while bare.images.committed_size() + MIB / 2 < image_bytes {
            bare.call(&hold);
            bare.images.commit();
        }
        bare
    }

    /// Binds a request.
    #[must_use]
    pub fn bind(&self, contract: &str, arguments: impl Into<Args>) -> Bound {
        bind(&self.guest, contract, arguments)
    }

    /// A request that dirties that many pages.
    #[must_use]
    pub fn touch(&self, pages: u32) -> Bound {
        self.bind("touch", json!({"pages": pages}))
    }

    /// Bytes of the committed image.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        self.images.committed_size()
    }

    fn try_call(&mut self, bound: &Bound) -> Called {
        let instance = self.instance.as_mut().expect("an instance between two calls");
        let limits = Limits::default();
        let arguments = bound.arguments.shared().expect("it is bound");
        instance.call(bound.contract, arguments, self.context.clone(), &limits)
    }

    /// Runs a request, and commits nothing.
    pub fn call(&mut self, bound: &Bound) {
        let called = self.try_call(bound);
        assert!(matches!(called, Called::Returned(_)), "{called:?}");
    }

    /// Commits, and answers how long that alone took.
    pub fn commit(&mut self) -> (Changed, Duration) {
        let start = Instant::now();
        let changed = self.images.commit();
        (changed, start.elapsed())
    }

    /// Crashes on top of what the calls since the last commit changed, and starts again.
    pub fn crash_then_commit(&mut self, crash: &Bound, next: &Bound) -> (Recovered, Changed) {
        let start = Instant::now();
        let called = self.try_call(crash);
        let caught = Instant::now();
        let changed = self.images.roll_back();
        let environment =
            self.instance.take().expect("an instance between two calls").into_environment();
        self.generation = self.generation.next();
        let again = Instance::again(
            &self.guest,
            &mut self.images,
            environment,
            Some(&Held::default()),
            self.generation,
            &self.context,
        );
        self.instance = Some(again.expect("the guest starts again"));
        self.call(next);
        self.images.commit();
        let (with_trap, after_trap) = (start.elapsed(), caught.elapsed());
        assert!(matches!(called, Called::Caught(_)), "{called:?}");
        (Recovered { with_trap, after_trap }, changed)
    }
}
