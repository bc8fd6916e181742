//! Worlds of threads over loopback, and peers that die, fall silent, are slow or do not fit.

use std::time::Instant;

use super::*;
use crate::testing::world;

fn soon() -> Timeouts {
    Timeouts::default().with(|timeouts| timeouts.connect = Duration::from_secs(20))
}

#[test]
fn everyone_gets_what_everyone_sent() {
    for count in [1, 2, 5] {
        let found = world(count, soon(), |group| {
            let rank = group.rank();
            let own = vec![rank as u8; 70_000 * rank];
            let all = group.all_gather(own).expect("all");
            assert!(all.iter().enumerate().all(|(from, bytes)| *bytes == vec![from as u8; 70_000 * from]));
            group.barrier().expect("all");
            assert_eq!(group.broadcast(count - 1, vec![rank as u8]).expect("all"), [count as u8 - 1]);
            // In order, and without mixing up the senders.
            for to in (0..count).filter(|to| *to != rank) {
                (0..50u8).for_each(|number| group.send(to, &[rank as u8, number]).expect("sent"));
            }
            for from in (0..count).rev().filter(|from| *from != rank) {
                for number in 0..50u8 {
                    assert_eq!(group.receive(from).expect("received"), [from as u8, number]);
                }
            }
            group.bytes_sent()
        });
        let own = |rank: usize| (70_000 * rank * (count - 1)) as u64 + 100 * (count as u64 - 1);
        let last = |rank: usize| if rank == count - 1 { count as u64 - 1 } else { 0 };
        assert_eq!(found, (0..count).map(|rank| own(rank) + last(rank)).collect::<Vec<_>>());
    }
}

#[test]
fn a_dead_process_is_named_by_all_others() {
    let errors = world(4, soon(), |group| match group.rank() {
        2 => {
            group.receive(0).expect("sent before");
            group.die();
            String::new()
        }
        rank => {
            if rank == 0 {
                group.send(2, b"go on").expect("sent");
            }
            let error = group.receive(if rank == 3 { 1 } else { 3 }).expect_err("nobody sends");
            assert_eq!(error.kind(), ErrorKind::Peer);
            error.to_string()
        }
    });
    for rank in [0, 1, 3] {
        assert!(errors[rank].starts_with("process 2 of 4 "), "{}", errors[rank]);
    }
}

#[test]
fn a_failure_reaches_those_who_wait_for_somebody_else() {
    let errors = world(3, soon(), |group| match group.rank() {
        1 => {
            group.abort("rows.jsonl:3: no query");
            String::new()
        }
        // Nobody sends this, so what ends the wait is the failure.
        rank => group.receive(2 - rank).expect_err("failed").to_string(),
    });
    let expected = "process 1 of 3 failed: rows.jsonl:3: no query";
    assert_eq!([&errors[0], &errors[2]], [expected; 2]);
}

#[test]
fn who_ends_early_is_missed_only_by_those_who_wait_for_it() {
    let found = world(3, soon(), |group| match group.rank() {
        0 => String::new(),
        rank => {
            let other = 3 - rank;
            let early = group.receive(0).expect_err("ended").to_string();
            // The message of a third is not lost, whatever came before.
            early + &group.send(other, b"x").map_or_else(|e| e.to_string(), |()| String::new())
        }
    });
    assert_eq!(found[1..], ["process 0 of 3 ended before the others"; 2]);
}

#[test]
fn a_slow_process_is_waited_for_and_a_mute_one_is_not() {
    let silence = Duration::from_millis(400);
    let timeouts = soon().with(|timeouts| timeouts.silence = silence);
    let begun = Instant::now();
    world(2, timeouts, |group| match group.rank() {
        // Longer than the silence, but alive.
        1 => {
            thread::sleep(3 * silence);
            group.send(0, b"done").expect("sent");
        }
        _ => assert_eq!(group.receive(1).expect("late"), b"done"),
    });
    assert!(begun.elapsed() >= 3 * silence);

    // Introduces itself as process 1, and does nothing else.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port").to_string();
    let mute = thread::spawn(move || handshake::join(&address, 1, 2, Duration::from_secs(20)).expect("joined"));
    let group = TcpGroup::host(&listener, 2, timeouts, &mut || Ok(())).expect("all");
    let _open = mute.join().expect("joined");
    let error = group.receive(1).expect_err("mute").to_string();
    assert_eq!(error, "process 1 of 2 was not heard of for 0.4 s");
}

#[test]
fn who_does_not_fit_is_refused_with_the_reason() {
    let refused = |joins: &[(usize, usize)]| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a port").to_string();
        thread::scope(|scope| {
            let join = |(rank, world)| {
                let address = &address;
                scope.spawn(move || TcpGroup::join(address, rank, world, soon()).err().map(|error| error.to_string()))
            };
            let others: Vec<_> = joins.iter().copied().map(join).collect();
            let first = TcpGroup::host(&listener, 3, soon(), &mut || Ok(())).err().map(|error| error.to_string());
            let first = first.expect("refused");
            drop(listener);
            for other in others {
                let told = other.join().expect("an answer").expect("refused");
                assert!(told == first || told.starts_with("cannot "), "{told} instead of {first}");
            }
            first
        })
    };
    let problem = "process 1 cannot take part: it is one of 4 processes, process 0 one of 3";
    assert_eq!(refused(&[(1, 4)]), problem);
    assert_eq!(refused(&[(1, 3), (1, 3)]), "process 1 cannot take part: there are two of this rank");
    let error = TcpGroup::join("127.0.0.1:1", 3, 3, soon()).err().expect("no such rank").to_string();
    assert_eq!(error, "`rank` is 3, allowed: 1 to 2 in a world of 3");
}

#[test]
fn strangers_are_passed_over_and_missing_processes_named() {
    use std::io::Write;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port").to_string();
    let mut stranger = TcpStream::connect(&address).expect("connected");
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written");
    let timeouts = soon().with(|timeouts| timeouts.connect = Duration::from_millis(300));
    let error = TcpGroup::host(&listener, 3, timeouts, &mut || Ok(())).err().expect("nobody came").to_string();
    assert_eq!(error, "waited 0 s for process 1, 2");
    let mut checks = 0;
    let check = &mut || {
        checks += 1;
        if checks > 2 { Err(Error::new(ErrorKind::Peer, "process 1 has exited")) } else { Ok(()) }
    };
    let error = TcpGroup::host(&listener, 3, soon(), check).err().expect("a child has exited").to_string();
    assert_eq!(error, "process 1 has exited");
    drop(listener);
    let error = TcpGroup::join(&address, 1, 2, timeouts).err().expect("nobody listens").to_string();
    assert_eq!(error, format!("cannot reach process 0 at {address} within 0 s"));
}
