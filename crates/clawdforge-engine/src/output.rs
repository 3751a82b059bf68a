//! Whether answers fit the schemas that were asked for: the one file that knows the validator.
//!
//! Schemas come from apps and answers from agents, so the work is bounded. What makes the stack deep is bounded by the
//! shape of schema and answer (`core::output`), and a thread of its own has room for all of it. What takes time is bounded by a
//! [`Meter`] that is asked by a keyword in every schema: when it has run down it unwinds out of the validator. What has no
//! such place in it takes little: patterns are matched in linear time and are small. Nothing is ever fetched: references stay
//! in their schema, and the validator is built without any way to fetch.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clawdforge_core::agent::TurnEnd;
use clawdforge_core::answer::json_in;
use clawdforge_core::output::{
    OUTPUT_BYTES_MAX, OUTPUT_DEPTH_MAX, OutputSchema, SchemaFault, VIOLATIONS_MAX, Verdict, Violation, is_deeper,
};
use jsonschema::{Draft, Keyword, PatternOptions, ValidationError, Validator};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// How long one check may take. An honest one takes a millisecond; a schema of 64 KiB on an answer of a megabyte may take a
/// second.
const CHECK_TIME_MAX: Duration = Duration::from_secs(5);

/// Checks at the same time: whoever makes them slow takes a processor, not all of them.
const CHECKS_AT_ONCE_MAX: usize = 2;

/// Bytes of the stack of a check: each of the 32 schemas that may look at one value, on each of 64 levels, takes some
/// 2 KiB (measured without optimisation), and this is eight times that. Memory that is not touched is not taken.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of one compiled pattern. `\w{20}` is one of a tenth of that.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// What may be looked at while every violation is gathered, in units of [`weight`]: each may make one, and all are held in
/// memory. Beyond it, only the first one is told.
const GATHERED_WEIGHT_MAX: u64 = 20_000;

/// The keyword by which the meter is asked. It begins as a caller's schema would have no reason to.
const METER: &str = "$clawdforge-meter";

/// Checks, a few at a time.
#[derive(Debug)]
pub(crate) struct Checks {
    room: Arc<Semaphore>,
    time_max: Duration,
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotDone {
    /// It would have taken too long.
    TooLong,
    /// The validator broke.
    Broken,
}

impl Checks {
    pub fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(CHECKS_AT_ONCE_MAX)), time_max: CHECK_TIME_MAX }
    }

    /// Whether a schema is one: its keywords are used as the dialect says.
    pub async fn schema(&self, schema: &OutputSchema) -> Result<(), SchemaFault> {
        let schema = schema.clone();
        let checked = self.apart(move |meter| validator(&schema, meter).map(drop)).await;
        checked.unwrap_or_else(|why| Err(SchemaFault { path: String::new(), message: why.of_schema().to_owned() }))
    }

    /// Whether an answer fits.
    pub async fn answer(&self, schema: OutputSchema, end: TurnEnd) -> Verdict {
        let checked = self.apart(move |meter| verdict(&schema, &end, meter)).await;
        checked.unwrap_or_else(|why| Verdict::Misfits(vec![Violation::new("", why.of_answer())]))
    }

    /// Does it on a thread with a deep stack, beside everything else. Whoever stops waiting does not stop it.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Meter>) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return Err(NotDone::Broken) };
        let time_max = self.time_max;
        let thread = std::thread::Builder::new().name("output-check".to_owned()).stack_size(STACK_BYTES);
        let joined = tokio::task::spawn_blocking(move || {
            let started = thread.spawn(move || {
                let done = work(&Arc::new(Meter::until(Instant::now() + time_max)));
                drop(permit);
                done
            });
            started
                .map_err(|error| {
                    tracing::error!(%error, "no thread could be started for the check of an answer");
                    NotDone::Broken
                })?
                .join()
                .map_err(|payload| if payload.is::<RunDown>() { NotDone::TooLong } else { NotDone::Broken })
        });
        let done = joined.await.unwrap_or(Err(NotDone::Broken));
        if matches!(done, Err(NotDone::Broken)) {
            tracing::error!("the check of an answer broke; it counts as an answer that does not fit");
        }
        done
    }
}

impl NotDone {
    fn of_schema(self) -> &'static str {
        match self {
            Self::TooLong => "it takes too long to read this schema; make it smaller",
            Self::Broken => "the validator could not read this schema; make it simpler",
        }
    }

    fn of_answer(self) -> &'static str {
        match self {
            Self::TooLong => "it takes too long to check this answer against the schema; make the schema simpler",
            Self::Broken => "the validator could not check this answer",
        }
    }
}

/// What a check may still do.
#[derive(Debug)]
struct Meter {
    until: Instant,
    left: AtomicU64,
}

/// Thrown through the validator when the meter has run down.
struct RunDown;

impl Meter {
    fn until(until: Instant) -> Self {
        Self { until, left: AtomicU64::new(u64::MAX) }
    }

    fn allow(&self, weight: u64) {
        self.left.store(weight, Ordering::Relaxed);
    }

    fn take(&self, weight: u64) {
        let left = self.left.load(Ordering::Relaxed);
        if left < weight || Instant::now() > self.until {
            // No panic: nothing is wrong, so nobody is told but whoever joins the thread.
            resume_unwind(Box::new(RunDown));
        }
        self.left.store(left - weight, Ordering::Relaxed);
    }
}

/// A schema's own place where the meter is asked.
struct Gate {
    meter: Arc<Meter>,
    weight: u64,
}

impl<'i> Keyword<'i> for Gate {
    fn validate(&self, _instance: &'i Value) -> Result<(), ValidationError<'i>> {
        self.meter.take(self.weight);
        Ok(())
    }

    fn is_valid(&self, _instance: &'i Value) -> bool {
        self.meter.take(self.weight);
        true
    }
}

fn validator(schema: &OutputSchema, meter: &Arc<Meter>) -> Result<Validator, SchemaFault> {
    let mut metered = schema.value().clone();
    OutputSchema::each(&mut metered, &mut |fields| {
        // The validator asks keywords of others last, where a schema that does not fit is left before. `allOf` it asks before
        // all that asks further schemas about the same value; at its end, references to places in it stay right.
        let gate = json!({ METER: fields.values().map(weight).sum::<u64>() });
        if let Value::Array(all) = fields.entry("allOf").or_insert_with(|| json!([])) {
            all.push(gate);
        }
    });
    let meter = Arc::clone(meter);
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    let built = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .with_pattern_options(patterns)
        .with_keyword(METER, move |_, weight, _| {
            meter.take(0);
            Ok(Box::new(Gate { meter: Arc::clone(&meter), weight: weight.as_u64().unwrap_or(1) }))
        })
        .build(&metered);
    built.map_err(|error| {
        let Violation { path, message } = Violation::new(error.instance_path().to_string(), error.to_string());
        SchemaFault { path, message }
    })
}

/// What a schema is counted for: the values that stand in it, which bound the violations it can make at one place.
fn weight(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields.values().map(weight).sum(),
        _ => 0,
    }
}

fn verdict(schema: &OutputSchema, end: &TurnEnd, meter: &Arc<Meter>) -> Verdict {
    let misfit = |message: String| Verdict::Misfits(vec![Violation::new("", message)]);
    let answer = end.answer.as_deref().unwrap_or_default();
    let value = match &end.output {
        Some(data) => (**data).clone(),
        None if answer.len() > OUTPUT_BYTES_MAX => return misfit(format!("it has more than {OUTPUT_BYTES_MAX} bytes")),
        None => match json_in(answer) {
            Some((_, value)) => value,
            None => return misfit("it is not JSON, or there are words around it".to_owned()),
        },
    };
    if is_deeper(&value, OUTPUT_DEPTH_MAX) {
        return misfit(format!("it has more than {OUTPUT_DEPTH_MAX} levels"));
    }
    match validator(schema, meter) {
        Ok(validator) if validator.is_valid(&value) => Verdict::Fits(value),
        Ok(validator) => Verdict::Misfits(violations(&validator, &value, meter)),
        // It was one when it was taken; another version of the service may think otherwise.
        Err(fault) => misfit(format!("the schema is none: at \"{}\": {}", fault.path, fault.message)),
    }
}

/// The first of what is wrong. Where there may be very much, the very first.
fn violations(validator: &Validator, value: &Value, meter: &Meter) -> Vec<Violation> {
    // Values are left out: whoever reads it has the answer, and they may be large.
    let told =
        |error: ValidationError<'_>| Violation::new(error.instance_path().to_string(), error.masked().to_string());
    meter.allow(GATHERED_WEIGHT_MAX);
    let gathered =
        catch_unwind(AssertUnwindSafe(|| validator.iter_errors(value).take(VIOLATIONS_MAX).map(told).collect()));
    gathered.unwrap_or_else(|_run_down| {
        meter.allow(u64::MAX);
        validator.validate(value).err().map(told).into_iter().collect()
    })
}

#[cfg(test)]
mod tests;
