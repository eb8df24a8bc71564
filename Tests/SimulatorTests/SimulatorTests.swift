import Simulator
import Testing
import Work

@Suite("Simulator")
struct SimulatorTests {
    static let seeds: UInt64 = 10_000
    static let parts: UInt64 = 20

    @Test("ten thousand worlds of lost messages, partitions, crashes, full disks and damaged blobs break no invariant")
    func faults() async {
        var result = CampaignResult()
        await withTaskGroup(of: CampaignResult.self) { group in
            let each = Self.seeds / Self.parts
            for part in 0..<Self.parts {
                group.addTask {
                    var result = CampaignResult()
                    for seed in (1 + part * each)...((part + 1) * each) { result.run(seed) }
                    return result
                }
            }
            for await part in group { result.add(part) }
        }
        for failure in result.failures { Issue.record("seed \(failure.seed): \(failure.violation)") }
        // The faults did happen, and most jobs outlive them.
        for fault in Fault.allCases { #expect(result.faults[fault] > 0, "no world had: \(fault.name)") }
        #expect(result.done * 2 > result.jobs)
        #expect(result.losses > 0)
        let scheduling = result.scheduling
        #expect(scheduling.preemptions > 0 && scheduling.quarantines > 0 && scheduling.retries > 0)
        #expect(scheduling.deadlines > 0 && scheduling.helps > 0)
        #expect(scheduling.refusals > 0 && scheduling.shares > 0 && scheduling.precedences > 0)
    }

    @Test("the same seed replays exactly, traced or not")
    func replay() {
        for seed in [3, 42, 4711] as [UInt64] {
            var first = Simulation(seed: seed)
            var second = Simulation(seed: seed, isTracing: true)
            first.run()
            second.run()
            #expect(first.journal == second.journal)
            #expect(first.eventCount == second.eventCount)
            #expect(!second.trace.isEmpty)
        }
    }

    @Test(
        "the simulator notices a machine that loses flushed commits, skips digests or names blobs before they are whole",
        arguments: [
            (WorldRules(commitsAreDurable: false), [.durability, .commitBeforeSend, .risingFences]),
            (WorldRules(digestsAreChecked: false), [.rightBytes]), (WorldRules(blobsAreFlushed: false), []),
        ] as [(WorldRules, [Invariant])])
    func world(rules: WorldRules, noticed: [Invariant]) {
        var result = CampaignResult()
        for seed in 1...400 as ClosedRange<UInt64> { result.run(seed, rules: rules) }
        let broken = Set(result.failures.map(\.violation.invariant))
        // Blobs torn by a power cut are found by their digests and made again: nothing breaks while those are checked.
        #expect(noticed.isEmpty == broken.isEmpty)
        #expect(noticed.isEmpty || !broken.isDisjoint(with: noticed), "found \(broken)")
    }
}
