//! Work in shares, each in a thread of its own.

use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

/// Does all shares of some work at once, the first of them in this thread; the first error in their order.
pub(crate) fn at_once<T: Send, E: Send>(
    shares: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let mut shares = shares.into_iter();
    let own = shares.next();
    let work = &work;
    thread::scope(|scope| {
        let others = shares.map(|share| scope.spawn(move || work(share)));
        let others: Vec<_> = others.collect();
        let own = own.map_or(Ok(()), work);
        let others = others.into_iter().map(ScopedJoinHandle::join);
        others.fold(own, |done, other| {
            done.and(other.unwrap_or_else(|panic| resume_unwind(panic)))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_share_is_done_and_the_first_error_is_told() {
        for n_shares in 0..5 {
            let n_done = AtomicUsize::new(0);
            let all = at_once(1..=n_shares, |share| {
                n_done.fetch_add(share, Ordering::Relaxed);
                Ok::<(), usize>(())
            });
            assert_eq!(all, Ok(()));
            assert_eq!(n_done.into_inner(), n_shares * (n_shares + 1) / 2);
        }
        let failed = at_once(
            0..5,
            |share| if share % 2 == 1 { Err(share) } else { Ok(()) },
        );
        assert_eq!(failed, Err(1));
    }

    #[test]
    #[should_panic(expected = "share 1")]
    fn a_panic_of_a_share_goes_on_here() {
        let work = |share: usize| {
            assert!(share == 0, "share {share}");
            Ok::<(), ()>(())
        };
        assert!(at_once(0..2, work).is_ok());
    }
}
