//! Where the data of all durable contenders is, and what it is kept on.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a sector, in the kernel's statistics of any device.
const SECTOR_BYTES: u64 = 512;

/// The environment's variable for another place.
pub const VARIABLE: &str = "BULKHEAD_BENCH_DIR";

/// A directory for data, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    mount: Option<Mount>,
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mount {
    /// Major and minor number, as the kernel writes them.
    device: String,
    point: PathBuf,
    filesystem: String,
    source: String,
}

impl Place {
    /// A new directory next to this program, so under `target`, or where the environment says.
    ///
    /// # Panics
    ///
    /// When there can be none.
    #[must_use]
    pub fn new() -> Self {
        let parent = std::env::var_os(VARIABLE).map_or_else(
            || {
                let program = std::env::current_exe().expect("this program has a path");
                program.parent().expect("a program is in a directory").to_owned()
            },
            PathBuf::from,
        );
        let path = parent.join(format!("bench-data-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let path = path.canonicalize().expect("the directory is there");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = mount_of(&mounts, &path);
        Self { path, mount }
    }

    /// An empty directory in it.
    ///
    /// # Panics
    ///
    /// When there can be none.
    #[must_use]
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// The file system and the device, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.mount {
            Some(mount) => format!("{} on {}", mount.filesystem, mount.source),
            None => "an unknown file system".to_owned(),
        }
    }

    /// Bytes that the device has written so far, for whomever; none when the kernel doesn't say.
    #[must_use]
    pub fn device_bytes(&self) -> Option<u64> {
        let device = &self.mount.as_ref()?.device;
        let stat = fs::read_to_string(format!("/sys/dev/block/{device}/stat")).ok()?;
        let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
        Some(sectors * SECTOR_BYTES)
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} is left: {error}", self.path.display());
        }
    }
}

/// The mount that `path` is on: the last one with the longest mount point above it.
fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(parse);
    mounts
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

/// `id parent major:minor root point options [more] - filesystem source options`
fn parse(line: &str) -> Option<Mount> {
    let (mount, device) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let (number, point) = (mount.next()?.to_owned(), PathBuf::from(mount.nth(1)?));
    let mut device = device.split(' ');
    let (filesystem, source) = (device.next()?.to_owned(), device.next()?.to_owned());
    Some(Mount { device: number, point, filesystem, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw,size=9k
31 22 254:16 /sub /data rw - xfs /dev/vdb rw
";

    #[test]
    fn the_longest_mount_point_counts() {
        let device = |path: &str| {
            let mount = mount_of(MOUNTS, Path::new(path)).unwrap();
            format!("{} {} {}", mount.device, mount.filesystem, mount.source)
        };
        assert_eq!(device("/home/x"), "254:0 ext4 /dev/vda");
        assert_eq!(device("/dev/shm/x"), "0:26 tmpfs tmpfs");
        assert_eq!(device("/data/x"), "254:16 xfs /dev/vdb");
        assert_eq!(device("/database"), "254:0 ext4 /dev/vda");
        assert_eq!(mount_of("nonsense", Path::new("/")), None);
    }

    #[test]
    fn what_is_in_a_place_goes_with_it() {
        let place = Place::new();
        let path = place.directory("x");
        fs::write(path.join("file"), "x").unwrap();
        drop(place);
        assert!(!path.exists());
    }
}
