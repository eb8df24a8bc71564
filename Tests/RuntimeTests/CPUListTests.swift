import Failure
import Runtime
import Testing

@Suite("lists of CPUs")
struct CPUListTests {
    @Test(
        "numbers and ranges are read and written as Linux writes them",
        arguments: [
            ("0", [0], "0"), ("0-3", [0, 1, 2, 3], "0-3"), ("0-1,16,20-22\n", [0, 1, 16, 20, 21, 22], "0-1,16,20-22"),
            ("5,3,4,4", [3, 4, 5], "3-5"), ("7-7", [7], "7"),
        ])
    func reading(text: String, numbers: [Int], written: String) throws {
        let list = try CPUList(parsing: text)
        #expect(list.numbers == numbers)
        #expect(list.description == written)
    }

    @Test(
        "what is no list is refused, and the message names the bad part",
        arguments: [
            ("", ""), ("\n", ""), ("0,,1", ""), ("0-", "0-"), ("-1", "-1"), ("3-1", "3-1"),
            ("0,x", "x"), ("0-1-2", "0-1-2"), ("1 ,2", "1 "), ("+1", "+1"), ("0-99999", "0-99999"),
            ("0-99999999999999999999", "0-99999999999999999999"),
            ("auto", "auto"), ("0-6:2", "0-6:2"), ("٣", "٣"),
        ])
    func refusing(text: String, part: String) throws {
        let failure = try #require(throws: Failure.self) { try CPUList(parsing: text) }
        #expect(failure.code == "cpus_invalid")
        #expect(failure.field == "cpus")
        #expect(failure.message.hasPrefix("\"\(part)\" in"))
    }

    @Test("a list may name usable CPUs only, and a refusal says which these are")
    func usable() throws {
        let usable = UsableCPUs(cpus: try CPUList(parsing: "4-7,12"), quota: nil)
        #expect(try usable.chosen("5,12").numbers == [5, 12])
        let strange = try #require(throws: Failure.self) { try usable.chosen("3-5,13") }
        #expect(strange.message == "CPUs 3,13 are not usable by this process.")
        #expect(strange.remedy == "Usable here: 4-7,12.")
        let malformed = try #require(throws: Failure.self) { try usable.chosen("4,five") }
        #expect(malformed.message.contains("\"five\""))
        #expect(malformed.remedy?.hasSuffix("Usable here: 4-7,12.") == true)
    }
}

@Suite("limits of control groups")
struct CPUQuotaTests {
    private func cores(_ files: [String: String]) -> Int? { CPUQuota.cores { files[$0] } }

    @Test(
        "version 2: a limit is rounded up to whole CPUs, and max is none",
        arguments: [
            ("max 100000\n", nil), ("100000 100000\n", 1), ("150000 100000\n", 2), ("200000 100000\n", 2),
            ("5000 100000\n", 1), ("1600000 50000\n", 32), ("", nil), ("0 100000\n", nil), ("100000 0\n", nil),
            ("rubbish", nil),
        ] as [(String, Int?)])
    func version2(text: String, expected: Int?) {
        let files = ["/proc/self/cgroup": "0::/system.slice/a.service\n"]
        #expect(cores(files.merging(["/sys/fs/cgroup/system.slice/a.service/cpu.max": text]) { $1 }) == expected)
    }

    @Test("version 2: the least limit of all levels counts, and the root of a container is a level")
    func levels() {
        let group = "/sys/fs/cgroup/a/b"
        #expect(
            cores([
                "/proc/self/cgroup": "0::/a/b\n", "\(group)/cpu.max": "800000 100000\n",
                "/sys/fs/cgroup/a/cpu.max": "250000 100000\n",
            ]) == 3)
        #expect(cores(["/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "400000 100000\n"]) == 4)
        #expect(
            cores(["/proc/self/cgroup": "0::/../../x\n", "/sys/fs/cgroup/cpu.max": "400000 100000\n"]) == 4)
    }

    @Test("version 1: quota and period of the cpu controller, −1 is none, and containers see their group as the root")
    func version1() {
        let groups = "5:memory:/m\n4:cpu,cpuacct:/docker/1\n3:cpuset:/s\n0::/\n"
        let folder = "/sys/fs/cgroup/cpu,cpuacct/docker/1", root = "/sys/fs/cgroup/cpu"
        func limit(_ folder: String, _ quota: String) -> Int? {
            cores([
                "/proc/self/cgroup": groups, "\(folder)/cpu.cfs_quota_us": quota,
                "\(folder)/cpu.cfs_period_us": "100000\n",
            ])
        }
        #expect(limit(folder, "350000\n") == 4)
        #expect(limit(folder, "-1\n") == nil)
        #expect(limit(root, "200000\n") == 2)
    }

    @Test("no control groups, or none of the processor, is no limit")
    func none() {
        #expect(cores([:]) == nil)
        #expect(cores(["/proc/self/cgroup": "2:memory:/x\nrubbish\n"]) == nil)
    }

    @Test("threads are worth starting up to the lesser of mask and limit")
    func count() throws {
        let eight = try CPUList(parsing: "0-7")
        #expect(UsableCPUs(cpus: eight, quota: nil).count == 8)
        #expect(UsableCPUs(cpus: eight, quota: 3).count == 3)
        #expect(UsableCPUs(cpus: eight, quota: 64).count == 8)
        #expect(UsableCPUs(cpus: eight, quota: 3).description == "0-7, of which a control group allows 3")
        #expect(UsableCPUs(cpus: eight, quota: 64).description == "0-7")
    }
}

@Suite("memory nodes and cores")
struct CPUTopologyTests {
    private let twoSockets = [
        "node/online": "0-2\n", "node/node0/cpulist": "0-3,8-11\n", "node/node1/cpulist": "4-7,12-15\n",
        "node/node2/cpulist": "\n",
    ].merging((0..<16).map { ("cpu/cpu\($0)/topology/core_cpus_list", "\($0 % 8),\($0 % 8 + 8)\n") }) { $1 }

    private func topology(_ cpus: String, _ files: [String: String]) throws -> CPUTopology {
        CPUTopology(of: try CPUList(parsing: cpus)) { files[String($0.dropFirst("/sys/devices/system/".count))] }
    }

    @Test("nodes and cores hold the usable CPUs, and a node of memory alone is none")
    func nodes() throws {
        let all = try topology("0-15", twoSockets)
        #expect(all.nodes.map(\.description) == ["0-3,8-11", "4-7,12-15"])
        #expect(all.cores.map(\.description) == ["0,8", "1,9", "2,10", "3,11", "4,12", "5,13", "6,14", "7,15"])
        let some = try topology("2,4-5,12", twoSockets)
        #expect(some.nodes.map(\.description) == ["2", "4-5,12"])
        #expect(some.cores.map(\.description) == ["2", "4,12", "5"])
        #expect(try topology("4-7", twoSockets).nodes.map(\.description) == ["4-7"])
    }

    @Test("a machine that does not tell has one node and a core a CPU")
    func silent() throws {
        let one = try topology("0-2,5", [:])
        #expect(one.nodes.map(\.description) == ["0-2,5"])
        #expect(one.cores.map(\.description) == ["0", "1", "2", "5"])
    }

    @Test("CPUs that no node names belong to the first")
    func rest() throws {
        let odd = try topology("0-2", ["node/online": "0", "node/node0/cpulist": "0-1"])
        #expect(odd.nodes.map(\.description) == ["0-2"])
    }

    @Test("shares hold whole cores, neighbours in one node, as long as there are enough")
    func shares() throws {
        let all = try topology("0-15", twoSockets)
        func shares(_ count: Int) -> [String] { all.divided(into: count).map(\.description) }
        #expect(shares(1) == ["0-15"])
        #expect(shares(2) == ["0-3,8-11", "4-7,12-15"])
        #expect(shares(3) == ["0-1,8-9", "2-4,10-12", "5-7,13-15"])
        #expect(shares(8) == ["0,8", "1,9", "2,10", "3,11", "4,12", "5,13", "6,14", "7,15"])
        #expect(shares(16).first == "0")
        #expect(Set(shares(16)).count == 16)
        #expect(shares(18).last == shares(18)[1])
    }

    @Test("this machine's topology holds each usable CPU once")
    func here() {
        let cpus = UsableCPUs.current().cpus
        let topology = CPUTopology.current(of: cpus)
        #expect(!cpus.isEmpty)
        #expect(topology.nodes.flatMap(\.numbers).sorted() == cpus.numbers)
        #expect(topology.cores.flatMap(\.numbers).sorted() == cpus.numbers)
    }
}
