//! Work by several threads, the results of which are handed over in the order of the tasks.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A task or its result, and which it is.
type Numbered<T> = (usize, T);

/// Takes tasks, works at several at a time, each thread with a state of its own, and adds what comes of them
/// up in their order; ends with the first that fails.
pub(super) fn in_order<T: Send, S: Default, D: Send, E: Send>(
    n_threads: usize,
    mut next: impl FnMut() -> Result<Option<T>, E> + Send,
    work: &(impl Fn(&mut S, T) -> Result<D, E> + Sync),
    add: &mut impl FnMut(D) -> Result<(), E>,
) -> Result<(), E> {
    if n_threads < 2 {
        let mut state = S::default();
        while let Some(task) = next()? {
            add(work(&mut state, task)?)?;
        }
        return Ok(());
    }
    // A task is taken only where one was added up before, so that few are there at a time.
    let n_there = n_threads + 1;
    let (allow, allowed): (SyncSender<()>, Receiver<()>) = sync_channel(2 * n_there);
    let (give, given): (SyncSender<Numbered<T>>, _) = sync_channel(n_there);
    let (finish, finished): (SyncSender<Numbered<Result<D, E>>>, _) = sync_channel(2 * n_there);
    for _ in 0..n_there {
        // There is room, and somebody who will take it.
        let _ = allow.send(());
    }
    let given = Arc::new(Mutex::new(given));
    thread::scope(|scope| {
        let finish_reader = finish.clone();
        scope.spawn(move || {
            let mut number = 0;
            while allowed.recv().is_ok() {
                let sent = match next() {
                    Ok(None) => break,
                    Ok(Some(task)) => give.send((number, task)).is_ok(),
                    Err(error) => {
                        // Nobody may wait any more.
                        let _ = finish_reader.send((number, Err(error)));
                        false
                    }
                };
                if !sent {
                    break;
                }
                number += 1;
            }
        });
        for _ in 0..n_threads {
            let (given, finish) = (Arc::clone(&given), finish.clone());
            scope.spawn(move || {
                let mut state = S::default();
                loop {
                    let next = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, task)) = next else { break };
                    if finish.send((number, work(&mut state, task))).is_err() {
                        break;
                    }
                }
            });
        }
        drop((finish, given));
        let mut waiting: BTreeMap<usize, Result<D, E>> = BTreeMap::new();
        let mut next = 0;
        let mut outcome = Ok(());
        'all: for (number, done) in &finished {
            waiting.insert(number, done);
            while let Some(done) = waiting.remove(&next) {
                next += 1;
                outcome = done.and_then(&mut *add);
                if outcome.is_err() {
                    break 'all;
                }
                let _ = allow.send(());
            }
        }
        // Whoever still waits to hand something over ends.
        drop((finished, allow));
        outcome
    })
}
