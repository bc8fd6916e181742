//! The sum of a step's gradients over all processes, in the order in which one process would add them.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device, Tensor, TensorData};
use care_core::{Error, ErrorKind, Result};

use crate::collective::{Collective, garbled, values_of};
use crate::gradient::{Gradient, NamedGradients, add_gradients};
use crate::shares::Shares;

/// The sum of a step's gradients.
///
/// The sum of a scope's gradients is at one process at a time and travels with the turns of the [`Shares`]: a process
/// adds the gradients of its chunks one by one, then passes the sum on, weight by weight. So the additions are those of
/// one process, and so is every bit of the result. The gradients of a turn are kept apart until the sum arrives.
pub(crate) struct GradientSum<'a> {
    group: &'a dyn Collective,
    device: Device,
    /// The process that has the sum of each scope.
    holders: BTreeMap<&'static str, usize>,
    /// What this process has of the sums.
    held: NamedGradients,
}

/// The turns of one backward pass.
pub(crate) struct Turns<'s, 'a> {
    sum: &'s mut GradientSum<'a>,
    scope: &'static str,
    shares: &'s Shares,
    /// The process that has the sum before the first turn.
    before: usize,
    /// The gradients of this turn's chunks, until the sum arrives.
    waiting: Vec<NamedGradients>,
}

impl<'a> GradientSum<'a> {
    /// No gradients yet. They are on this device, without a graph.
    pub(crate) fn new(group: &'a dyn Collective, device: Device) -> Self {
        Self { group, device, holders: BTreeMap::new(), held: NamedGradients::new() }
    }

    /// Begins a backward pass whose gradients' names start with `scope`.
    ///
    /// # Errors
    /// Returns an error if a process is lost.
    pub(crate) fn turns<'s>(&'s mut self, scope: &'static str, shares: &'s Shares) -> Result<Turns<'s, 'a>> {
        let rank = self.group.rank();
        let first = shares.turns().first().map_or(rank, |(owner, _)| *owner);
        let before = self.holders.get(scope).copied().unwrap_or(first);
        if let Some((last, _)) = shares.turns().last() {
            self.holders.insert(scope, *last);
        }
        let mut turns = Turns { sum: self, scope, shares, before, waiting: Vec::new() };
        if rank == before && rank != first {
            turns.pass_on(None, Some(first))?;
        }
        Ok(turns)
    }

    /// The whole sum, which every process gets.
    ///
    /// # Errors
    /// Returns an error if a process is lost.
    pub(crate) fn finish(mut self) -> Result<NamedGradients> {
        let (rank, world) = (self.group.rank(), self.group.world());
        let (before, after) = ((rank + world - 1) % world, (rank + 1) % world);
        for (scope, holder) in std::mem::take(&mut self.holders) {
            // Round the processes, so that each sends the sum once.
            let next = Some(after).filter(|after| *after != holder);
            let names = match rank == holder {
                true => self.names(scope),
                false => read_names(before, &self.group.receive(before)?)?,
            };
            self.send_names(next, &names)?;
            for name in names {
                let bytes = match self.held.get(&name).filter(|_| rank == holder) {
                    Some(gradient) if next.is_some() => encode(gradient)?,
                    Some(_) => continue,
                    None => self.group.receive(before)?,
                };
                next.map_or(Ok(()), |next| self.group.send(next, &bytes))?;
                if rank != holder {
                    self.held.insert(name, decode(before, &bytes, &self.device)?);
                }
            }
        }
        Ok(self.held)
    }

    /// The names of the gradients of a scope that are here.
    fn names(&self, scope: &str) -> BTreeSet<String> {
        self.held.keys().filter(|name| is_in(scope, name)).cloned().collect()
    }

    fn send_names(&self, to: Option<usize>, names: &BTreeSet<String>) -> Result<()> {
        let Some(to) = to else { return Ok(()) };
        let joined: Vec<&str> = names.iter().map(String::as_str).collect();
        self.group.send(to, joined.join("\n").as_bytes())
    }
}

impl Turns<'_, '_> {
    /// Adds the gradients of a chunk of this process. Chunks come in their order.
    ///
    /// # Errors
    /// Returns an error if a process is lost.
    pub(crate) fn add(&mut self, chunk: usize, gradients: NamedGradients) -> Result<()> {
        let turns = self.shares.turns();
        let at = turns.iter().position(|(_, chunks)| chunks.contains(&chunk)).unwrap_or_default();
        let (rank, chunks) = &turns[at];
        let from = Some(at.checked_sub(1).map_or(self.before, |before| turns[before].0)).filter(|from| from != rank);
        match from {
            None => add_gradients(gradients, &mut self.sum.held),
            Some(_) => self.waiting.push(gradients),
        }
        if chunk + 1 < chunks.end {
            return Ok(());
        }
        let to = turns.get(at + 1).map(|(owner, _)| *owner).filter(|to| to != rank);
        self.pass_on(from, to)
    }

    /// Takes the sum over, adds what waits for it, and passes it on, one weight after the other.
    fn pass_on(&mut self, from: Option<usize>, to: Option<usize>) -> Result<()> {
        if from.is_none() && to.is_none() {
            return Ok(());
        }
        let Self { sum, scope, waiting, .. } = self;
        let arriving = match from {
            Some(from) => read_names(from, &sum.group.receive(from)?)?,
            None => sum.names(scope),
        };
        let names = arriving.iter().chain(waiting.iter().flat_map(BTreeMap::keys)).cloned().collect();
        sum.send_names(to, &names)?;
        for name in names {
            let before = match from.filter(|_| arriving.contains(&name)) {
                Some(from) => Some(decode(from, &sum.group.receive(from)?, &sum.device)?),
                None => sum.held.remove(&name),
            };
            let mut total: NamedGradients = before.map(|gradient| (name.clone(), gradient)).into_iter().collect();
            for gradients in waiting.iter_mut() {
                add_gradients(gradients.remove_entry(&name).into_iter().collect(), &mut total);
            }
            let Some(gradient) = total.remove(&name) else { continue };
            match to {
                Some(to) => {
                    sum.group.send(to, &encode(&gradient)?)?;
                    gradient.recycle();
                }
                None => drop(sum.held.insert(name, gradient)),
            }
        }
        waiting.clear();
        Ok(())
    }
}

fn is_in(scope: &str, name: &str) -> bool {
    name.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'))
}

fn read_names(from: usize, bytes: &[u8]) -> Result<BTreeSet<String>> {
    let names = std::str::from_utf8(bytes).map_err(|e| garbled(from, e))?;
    Ok(names.split('\n').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// The values, for some rows of a table also the rows' numbers, then how many of these there are and the rows of the
/// table; both are 0 for a whole gradient.
fn encode(gradient: &Gradient) -> Result<Vec<u8>> {
    let host = |data: TensorData| match data.dtype() {
        DType::F32 => Ok(data.as_bytes().to_vec()),
        other => Err(Error::new(ErrorKind::Config, format!("processes exchange gradients of f32, not of {other:?}"))),
    };
    let (mut bytes, numbers, rows) = match gradient {
        Gradient::Whole(values) => (host(values.to_data())?, [].as_slice(), 0),
        Gradient::Rows { numbers, values, rows } => (host(values.to_data())?, numbers.as_slice(), *rows),
    };
    bytes.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    bytes.extend([numbers.len(), rows].iter().flat_map(|count| (*count as u64).to_ne_bytes()));
    Ok(bytes)
}

fn decode(from: usize, bytes: &[u8], device: &Device) -> Result<Gradient> {
    let cut = || garbled(from, "a gradient is cut short");
    let (bytes, rows) = bytes.split_last_chunk::<8>().ok_or_else(cut)?;
    let (bytes, count) = bytes.split_last_chunk::<8>().ok_or_else(cut)?;
    let (count, rows) = (u64::from_ne_bytes(*count) as usize, u64::from_ne_bytes(*rows) as usize);
    let length = count.checked_mul(4).and_then(|numbers| bytes.len().checked_sub(numbers)).ok_or_else(cut)?;
    let (values, numbers) = bytes.split_at(length);
    let values = values_of(values);
    if rows == 0 {
        let count = values.len();
        return Ok(Gradient::Whole(Tensor::from_data(TensorData::new(values, [count]), device)));
    }
    let (numbers, _) = numbers.as_chunks::<4>();
    let numbers: Vec<u32> = numbers.iter().map(|number| u32::from_ne_bytes(*number)).collect();
    let width = values.len() / numbers.len().max(1);
    let shape = [numbers.len(), width];
    Ok(Gradient::Rows { numbers, values: Tensor::from_data(TensorData::new(values, shape), device), rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::{Alone, Timeouts};
    use crate::testing::world;

    fn device() -> Device {
        care_encoders::Device::Cpu.open().expect("cpu")
    }

    /// Values whose sum depends on the order of the additions.
    fn values(seed: usize, count: usize) -> Vec<f32> {
        let value = |at: usize| ((at * 37 + seed * 101) % 97) as f32 / 7.0 * 10f32.powi((seed % 7) as i32 - 3);
        (0..count).map(value).collect()
    }

    /// The gradients of a chunk: a weight that all chunks have, rows of a table, and a weight that some have.
    fn gradients(scope: &str, chunk: usize) -> NamedGradients {
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [values.len()]), &device());
        let rows = Gradient::Rows {
            numbers: vec![chunk as u32, chunk as u32 + 2],
            values: Tensor::from_data(TensorData::new(values(chunk, 6), [2, 3]), &device()),
            rows: 140,
        };
        let mut named = NamedGradients::from([
            (format!("{scope}.a"), Gradient::Whole(tensor(values(chunk, 50)))),
            (format!("{scope}.table"), rows),
        ]);
        if chunk % 3 == 1 {
            named.insert(format!("{scope}.some"), Gradient::Whole(tensor(values(chunk + 5, 4))));
        }
        named
    }

    /// The bits of the sums of two batches, each with a pass of another number of chunks per scope.
    fn sum(group: &dyn Collective) -> BTreeMap<String, Vec<u32>> {
        let mut sum = GradientSum::new(group, device());
        for (batch, scope, chunks) in
            [(0, "query", 1), (0, "query2", 23), (1, "query", 6), (1, "query2", 2), (1, "query", 0)]
        {
            let shares = Shares::new(&vec![10; chunks], group.world());
            let mut turns = sum.turns(scope, &shares).expect("alive");
            for chunk in shares.of(group.rank()) {
                turns.add(chunk, gradients(scope, 100 * batch + chunk)).expect("alive");
            }
        }
        let bits = |gradient: Gradient| {
            let values = gradient.whole().into_data().try_to_vec::<f32>().expect("f32");
            values.into_iter().map(f32::to_bits).collect()
        };
        sum.finish().expect("alive").into_iter().map(|(name, gradient)| (name, bits(gradient))).collect()
    }

    #[test]
    fn sums_of_many_processes_have_the_bits_of_one() {
        let expected = sum(&Alone);
        assert_eq!(expected.len(), 6);
        for count in [2, 3, 4, 7] {
            for found in world(count, Timeouts::default(), |group| sum(&*group)) {
                assert_eq!(found, expected, "{count} processes");
            }
        }
    }

    #[test]
    fn broken_gradients_are_refused() {
        let gradient = gradients("query", 3).remove("query.table").expect("a table");
        let bytes = encode(&gradient).expect("f32");
        assert!(matches!(decode(1, &bytes, &device()), Ok(Gradient::Rows { rows: 140, .. })));
        assert!(decode(1, &bytes[..10], &device()).is_err());
        let mut numbers = bytes;
        let end = numbers.len();
        numbers[end - 16..end - 8].copy_from_slice(&u64::MAX.to_ne_bytes());
        let error = decode(1, &numbers, &device()).expect_err("too many rows");
        assert!(error.to_string().contains("process 1"), "{error}");
    }
}
