//! Large zeroed memory from the system: touched pages cost, reserved ones do not, and huge pages are asked for, since
//! weights and cache are walked end to end at every token.

use memmap2::MmapMut;

/// Bytes of the processor's last cache that a program may count on, as others use it too; 0 where the system does not
/// say.
pub(crate) fn processor_cache() -> usize {
    let size = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size");
    let kibibytes = size.ok().and_then(|size| size.trim().strip_suffix('K')?.parse::<usize>().ok());
    kibibytes.map_or(0, |kibibytes| kibibytes * 1024 / 3 * 2)
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
    let left = group("max").map(|most| most.saturating_sub(group("current").unwrap_or(0)));
    Some(left.map_or(available, |left| left.min(available)))
}

/// Zeroed 32-bit words.
pub(crate) struct Memory {
    map: MmapMut,
    words: usize,
}

impl Memory {
    pub(crate) fn zeroed(words: usize) -> std::io::Result<Self> {
        let map = MmapMut::map_anon((words * 4).max(1))?;
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
