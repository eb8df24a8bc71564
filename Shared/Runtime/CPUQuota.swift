/// The processor time that control groups leave this process, as whole CPUs.
///
/// A container limited to 1.5 CPUs on a machine of 64 sees all 64 in its affinity mask; with 64 threads it would use up its
/// share in the first moments of every period and stand still for the rest.
package enum CPUQuota {
    /// The least limit of this process's groups and the groups around them, rounded up; nil without a limit.
    ///
    /// Version 2 has `cpu.max` ("150000 100000", "max 100000"), version 1 `cpu.cfs_quota_us` (−1: none) and
    /// `cpu.cfs_period_us`. A container may see its own group as the root, so every level up to the root is looked at.
    ///
    /// - Parameter read: the content of a file, nil where there is none.
    package static func cores(read: (String) -> String?) -> Int? {
        var limits: [Int] = []
        for line in (read("/proc/self/cgroup") ?? "").split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            if fields[1].isEmpty {
                for folder in levels("/sys/fs/cgroup", fields[2]) {
                    limits.append(contentsOf: read(folder + "/cpu.max").flatMap(version2).map { [$0] } ?? [])
                }
            } else if fields[1].split(separator: ",").contains("cpu") {
                for mount in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"] {
                    for folder in levels(mount, fields[2]) {
                        let quota = read(folder + "/cpu.cfs_quota_us"), period = read(folder + "/cpu.cfs_period_us")
                        limits.append(contentsOf: cores(quota, of: period).map { [$0] } ?? [])
                    }
                }
            }
        }
        return limits.min()
    }

    private static func version2(_ text: String) -> Int? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 2 else { return nil }
        return cores(String(words[0]), of: String(words[1]))
    }

    private static func cores(_ quota: String?, of period: String?) -> Int? {
        guard let quota = microseconds(quota), let period = microseconds(period) else { return nil }
        return (quota - 1) / period + 1
    }

    /// A positive number; "max" and −1 mean that there is no limit.
    private static func microseconds(_ text: String?) -> Int? {
        guard let word = text?.split(whereSeparator: \.isWhitespace).first, let number = Int(word), number > 0 else {
            return nil
        }
        return number
    }

    /// The group's folder and those above it, down to the mount itself.
    private static func levels(_ mount: String, _ path: Substring) -> [String] {
        var names = path.split(separator: "/")
        // A group outside this namespace's root ("/../x") has no folder here.
        if names.contains("..") { names = [] }
        return (0...names.count).reversed().map { ([mount] + names.prefix($0).map(String.init)).joined(separator: "/") }
    }
}
