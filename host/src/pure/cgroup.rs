//! The control groups that a process is in, and the files that limit its memory: from what
//! `/proc/self/cgroup` and `/proc/self/mountinfo` say.
//!
//! A group's limit holds for all groups in it, so the files of all groups on the way up count. What
//! is above the mounted part of the hierarchy, as in a container, can't be seen from here.

/// Files with limits: each a number of bytes, or a word that means none. Some may not exist.
#[must_use]
pub fn limit_files(groups: &str, mounts: &str) -> Vec<String> {
    let mut files = Vec::new();
    for mount in mounts.lines().filter_map(Mount::read) {
        let names = mount.kind.limits();
        let its = groups.lines().filter_map(|line| mount.group(line));
        for below in its {
            let mut directory = mount.point.clone();
            let steps = below.split('/').filter(|step| !step.is_empty());
            for step in std::iter::once(None).chain(steps.map(Some)) {
                if let Some(step) = step {
                    directory.push('/');
                    directory.push_str(step);
                }
                files.extend(names.iter().map(|name| format!("{directory}/{name}")));
            }
        }
    }
    files
}

/// The smallest limit that such files hold.
#[must_use]
pub fn smallest<'a>(contents: impl Iterator<Item = &'a str>) -> Option<usize> {
    contents.filter_map(|text| text.trim().parse().ok()).min()
}

/// A mounted hierarchy.
struct Mount {
    /// What of the hierarchy is mounted.
    root: String,
    point: String,
    kind: Kind,
}

enum Kind {
    /// One hierarchy for everything.
    Unified,
    /// One of several, with the controller of memory.
    Memory,
}

impl Kind {
    /// What the limits of a group are called.
    fn limits(&self) -> &'static [&'static str] {
        match self {
            Self::Unified => &["memory.max", "memory.high"],
            Self::Memory => &["memory.limit_in_bytes"],
        }
    }
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        let (own, system) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(3);
        let (root, point) = (unescaped(own.next()?), unescaped(own.next()?));
        let mut system = system.split(' ');
        let kind = match system.next()? {
            "cgroup2" => Kind::Unified,
            "cgroup" if system.nth(1)?.split(',').any(|option| option == "memory") => Kind::Memory,
            _ => return None,
        };
        Some(Self { root, point, kind })
    }

    /// The path below the mount, if a line of groups is about this hierarchy.
    fn group<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_its = match self.kind {
            Kind::Unified => number == "0" && controllers.is_empty(),
            Kind::Memory => controllers.split(',').any(|controller| controller == "memory"),
        };
        if !is_its {
            return None;
        }
        let root = if self.root == "/" { "" } else { self.root.as_str() };
        // A group that is not below what is mounted is seen as that.
        let below =
            path.strip_prefix(root).filter(|below| below.is_empty() || below.starts_with('/'));
        Some(below.filter(|below| !below.split('/').any(|step| step == "..")).unwrap_or(""))
    }
}

/// A path, in which the kernel writes some characters as `\040`.
fn unescaped(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(code) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str =
        "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
    const V1: &str = "\
24 18 0:22 / / rw - ext4 /dev/vda1 rw
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:13 - cgroup cgroup rw,cpu,cpuacct";

    fn check(groups: &str, mounts: &str, expected: &[&str]) {
        assert_eq!(limit_files(groups, mounts), expected, "{groups:?} {mounts:?}");
    }

    #[test]
    fn the_groups_of_a_process_are_found_wherever_they_are_mounted() {
        let top = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.high"];
        check("0::/\n", V2, &top);
        check(
            "0::/system.slice/bulkhead.service\n",
            V2,
            &[
                top[0],
                top[1],
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/system.slice/memory.high",
                "/sys/fs/cgroup/system.slice/bulkhead.service/memory.max",
                "/sys/fs/cgroup/system.slice/bulkhead.service/memory.high",
            ],
        );
        check(
            "5:cpu,cpuacct:/a\n4:memory:/docker/0a1b\n1:name=systemd:/docker/0a1b\n0::/\n",
            V1,
            &[
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/0a1b/memory.limit_in_bytes",
            ],
        );
        // A container that sees its own part of a hierarchy alone.
        let part = "33 30 0:29 /docker/0a1b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        check(
            "4:memory:/docker/0a1b/in\n",
            part,
            &[
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/in/memory.limit_in_bytes",
            ],
        );
        // One that is in a group which is not below that, or is not said to be.
        for elsewhere in ["/docker/0a1bcd", "/../other", "/"] {
            let expected = ["/sys/fs/cgroup/memory/memory.limit_in_bytes"];
            check(&format!("4:memory:{elsewhere}\n"), part, &expected);
        }
        check("0::/../up\n", V2, &top);
        // Both, mounted at odd places.
        let odd = V2.replace("/sys/fs/cgroup ", "/run/my\\040groups\\134 ");
        check(
            "4:memory:/a\n0::/b\n",
            &format!("{}\n{odd}", V1.lines().nth(3).unwrap()),
            &[
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/run/my groups\\/memory.max",
                "/run/my groups\\/memory.high",
                "/run/my groups\\/b/memory.max",
                "/run/my groups\\/b/memory.high",
            ],
        );
    }

    #[test]
    fn what_is_not_understood_is_no_limit() {
        for (groups, mounts) in [
            ("", ""),
            ("0::/", ""),
            ("", V2),
            ("0:/", V2),
            ("x", "y - cgroup2"),
            ("0::/", "1 - cgroup"),
        ] {
            check(groups, mounts, &[]);
        }
        assert_eq!(unescaped("a\\04\\049\\400\\"), "a\\04\\049\\400\\");
        let contents = ["max\n", "1073741824\n", "9223372036854771712\n", "", "-1", "536870912"];
        assert_eq!(smallest(contents.into_iter()), Some(536_870_912));
        assert_eq!(smallest(["max\n"].into_iter()), None);
    }
}
