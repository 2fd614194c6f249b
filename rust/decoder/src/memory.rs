//! Large zeroed memory from the system: touched pages cost, reserved ones do not, and huge pages are asked for, since
//! weights and cache are walked end to end at every token.

use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;

/// Bytes of a huge page on most systems.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes of the processor's last cache that a program may count on, as others use it too, and as what is read in turn
/// needs room to spare; 0 where the system does not say.
pub(crate) fn processor_cache() -> usize {
    let size = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size");
    let kibibytes = size.ok().and_then(|size| size.trim().strip_suffix('K')?.parse::<usize>().ok());
    kibibytes.map_or(0, |kibibytes| kibibytes * 1024 / 2)
}

/// Bytes that programs can still take before the system has to swap or to kill: of the machine, and of the control
/// group that this process may be confined to. None where the system does not say.
pub(crate) fn free() -> Option<usize> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024;
    let group = |name: &str| -> Option<usize> {
        std::fs::read_to_string(format!("/sys/fs/cgroup/memory.{name}")).ok()?.trim().parse().ok()
    };
    // Pages of files count as taken, and are given up for whoever needs memory.
    let stat = std::fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    let files: usize = ["active_file ", "inactive_file "]
        .iter()
        .filter_map(|name| stat.lines().find_map(|line| line.strip_prefix(name))?.parse::<usize>().ok())
        .sum();
    let left = group("max").map(|most| most.saturating_sub(group("current").unwrap_or(0).saturating_sub(files)));
    Some(left.map_or(available, |left| left.min(available)))
}

/// Zeroed 32-bit words.
pub(crate) struct Memory {
    map: MmapMut,
    words: usize,
}

impl Memory {
    pub(crate) fn zeroed(words: usize) -> std::io::Result<Self> {
        let mut bytes = (words * 4).max(1);
        if bytes >= HUGE_PAGE {
            // What is left over would lie in small pages.
            bytes = bytes.next_multiple_of(HUGE_PAGE);
        }
        let map = MmapMut::map_anon(bytes)?;
        // A kernel without huge pages refuses the advice; it is only speed.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map, words })
    }

    pub(crate) fn words(&self) -> &[u32] {
        bytemuck::cast_slice(&self.map[..self.words * 4])
    }

    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        bytemuck::cast_slice_mut(&mut self.map[..self.words * 4])
    }
}

/// Some words of a memory that others own too.
pub(crate) struct Shared {
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl Shared {
    pub(crate) fn words(&self) -> &[u32] {
        &self.memory.words()[self.range.clone()]
    }
}

impl From<Memory> for Shared {
    fn from(memory: Memory) -> Self {
        let range = 0..memory.words;
        Self { memory: Arc::new(memory), range }
    }
}

/// Moves what is smaller than a huge page into one memory: alone, none of it would get one.
pub(crate) fn gather(parts: &mut [&mut Shared]) -> std::io::Result<()> {
    let small = |part: &&mut &mut Shared| part.range.len() * 4 < HUGE_PAGE;
    let total = parts.iter_mut().filter(small).map(|part| part.range.len()).sum();
    let mut memory = Memory::zeroed(total)?;
    let mut end = 0;
    for part in parts.iter_mut().filter(small) {
        let words = part.words();
        memory.words_mut()[end..][..words.len()].copy_from_slice(words);
        end += words.len();
    }
    let memory = Arc::new(memory);
    let mut begin = 0;
    for part in parts.iter_mut().filter(small) {
        let range = begin..begin + part.range.len();
        begin = range.end;
        **part = Shared { memory: Arc::clone(&memory), range };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(words: usize, with: u32) -> Shared {
        let mut memory = Memory::zeroed(words).unwrap();
        memory.words_mut().fill(with);
        memory.into()
    }

    #[test]
    fn what_is_smaller_than_a_huge_page_moves_together_and_stays_what_it_was() {
        let large = HUGE_PAGE / 4;
        let mut parts = [(3, 7), (large, 8), (100, 9), (0, 1)].map(|(words, with)| filled(words, with));
        let [a, b, c, d] = &mut parts;
        gather(&mut [a, b, c, d]).unwrap();
        let found: Vec<_> = parts.iter().map(|part| (part.words().len(), part.words().first().copied())).collect();
        assert_eq!(found, [(3, Some(7)), (large, Some(8)), (100, Some(9)), (0, None)]);
        assert!(parts.iter().all(|part| part.words().iter().all(|word| Some(word) == part.words().first())));
        assert!(Arc::ptr_eq(&parts[0].memory, &parts[2].memory));
        assert!(!Arc::ptr_eq(&parts[0].memory, &parts[1].memory));
    }
}
