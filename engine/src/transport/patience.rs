//! How long a sender waits for its answer.
//!
//! The one idea: a request that was taken is seen through, whatever becomes of its connection; only the wait for the answer
//! ends, at the sender's deadline or when it goes away. Nothing is cancelled here: who works on the request may ask whether
//! anybody still waits.

use crate::shard::runtime::sleep;
use codecs::grpc::{Code, Status};
use http::HeaderValue;
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Digits of a `grpc-timeout` (gRPC over HTTP/2, "Requests": TimeoutValue).
const TIMEOUT_DIGITS_MAX: usize = 8;

/// One sender's patience with one request. The default waits for ever.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    /// From now; `None`: no limit.
    pub wait_max: Option<Duration>,
    sender: Option<Rc<Sender>>,
}

#[derive(Debug, Default)]
struct Sender {
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The connection's end: dropping it says that the sender is gone.
#[derive(Debug)]
pub struct Presence(Rc<Sender>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.gone.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl Patience {
    /// Of a sender that may go away.
    pub fn of_sender(wait_max: Option<Duration>) -> (Patience, Presence) {
        let sender = Rc::new(Sender::default());
        (Patience { wait_max, sender: Some(Rc::clone(&sender)) }, Presence(sender))
    }

    /// Waits for `future` as long as the sender does; else the status that it would be told.
    pub async fn during<F: Future>(self, future: F) -> Result<F::Output, Status> {
        let Patience { wait_max, sender } = self;
        let mut future = pin!(future);
        let mut limit = pin!(async {
            match wait_max {
                Some(wait) => sleep(wait).await,
                None => pending().await,
            }
        });
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if sender.as_ref().is_some_and(|sender| sender.is_gone(context)) {
                return Poll::Ready(Err(Status::new(Code::Cancelled, "the sender went away before the answer")));
            }
            limit.as_mut().poll(context).map(|()| Err(Status::new(Code::DeadlineExceeded, "the sender's time is over")))
        })
        .await
    }
}

impl Sender {
    fn is_gone(&self, context: &Context<'_>) -> bool {
        if !self.gone.get() {
            *self.waker.borrow_mut() = Some(context.waker().clone());
        }
        self.gone.get()
    }
}

/// `grpc-timeout`: up to eight digits and a unit. Nonsense is no limit.
pub fn grpc_timeout(value: Option<&HeaderValue>) -> Option<Duration> {
    let text = value?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > TIMEOUT_DIGITS_MAX || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_timeout_is_digits_and_a_unit_and_nonsense_is_no_limit() {
        let parse = |text: &'static str| grpc_timeout(Some(&HeaderValue::from_static(text)));
        assert_eq!(parse("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "10", "10s", "-1S", "1.5S", "999999999S", "1 S"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(grpc_timeout(None), None);
    }

    #[test]
    fn the_wait_ends_when_the_sender_goes_away() {
        let (patience, presence) = Patience::of_sender(None);
        let mut waiting = pin!(patience.during(pending::<()>()));
        assert_eq!(block_on(poll_once(waiting.as_mut())), None);
        drop(presence);
        let ended = block_on(waiting);
        assert_eq!(ended.map_err(|status| status.code), Err(Code::Cancelled));
    }
}
