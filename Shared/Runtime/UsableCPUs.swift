import CPlatform
package import Failure
import FoundationEssentials
import Glibc

/// What this process may compute on: its affinity mask and its control groups' limit.
package struct UsableCPUs: Sendable, Hashable, CustomStringConvertible {
    /// CPUs of the affinity mask.
    package let cpus: CPUList
    /// CPUs' worth of time that control groups allow; nil without a limit.
    package let quota: Int?

    package init(cpus: CPUList, quota: Int?) {
        self.cpus = cpus
        self.quota = quota
    }

    /// Threads worth starting, at least 1.
    package var count: Int { max(1, min(cpus.count, quota ?? .max)) }

    /// `0-7`, `0-63, of which a control group allows 4`.
    package var description: String {
        guard let quota, quota < cpus.count else { return cpus.description }
        return "\(cpus), of which a control group allows \(quota)"
    }

    /// What the calling thread may use now.
    package static func current() -> UsableCPUs {
        var numbers = [Int32](repeating: 0, count: CPUList.limit)
        let count = cs_affinity_get(&numbers, Int32(numbers.count))
        let cpus = count > 0 ? numbers.prefix(Int(count)).map(Int.init) : Array(0..<max(1, onlineCount))
        return UsableCPUs(cpus: CPUList(cpus), quota: CPUQuota.cores(read: SystemFile.read))
    }

    private static var onlineCount: Int { sysconf(Int32(_SC_NPROCESSORS_ONLN)) }

    /// `list` as CPUs, all of which are usable.
    ///
    /// - Throws: `cpus_invalid` for a part that cannot be read or a CPU that is not in this set; the remedy names the set.
    package func chosen(_ list: String) throws(Failure) -> CPUList {
        let wanted: CPUList
        do {
            wanted = try CPUList(parsing: list)
        } catch {
            var failure = error
            failure.remedy = "\(error.remedy ?? "") Usable here: \(cpus)."
            throw failure
        }
        let strange = CPUList(Set(wanted.numbers).subtracting(cpus.numbers))
        guard strange.isEmpty else {
            let names = strange.count == 1 ? "CPU \(strange) is" : "CPUs \(strange) are"
            throw Failure(
                "cpus_invalid", "\(names) not usable by this process.", field: "cpus", remedy: "Usable here: \(cpus).")
        }
        return wanted
    }

    /// Binds every thread of this process, and all that they will start, to `cpus`.
    ///
    /// - Throws: `cpus_invalid` when the system refuses.
    package static func bindProcess(to cpus: CPUList) throws(Failure) {
        let numbers = cpus.numbers.map(Int32.init)
        guard cs_affinity_bind_process(numbers, Int32(numbers.count)) == 0 else {
            throw Failure(
                "cpus_invalid", "the system refuses CPUs \(cpus): \(String(cString: strerror(errno))).", field: "cpus",
                remedy: "Usable here: \(current().cpus).")
        }
    }
}

/// Files that the kernel makes up when they are read.
enum SystemFile {
    /// The content, nil where there is none.
    static func read(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
}
