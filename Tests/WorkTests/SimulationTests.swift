import Testing
import Wire
import Work

@Suite("Simulation")
struct SimulationTests {
    @Test(
        "drops, doubles, reordering, crashes and freezes: one end per job, rising fences, nothing stale, every job ends",
        arguments: [0, 125, 250, 375] as [UInt64])
    func faults(first: UInt64) {
        var grants = 0
        var losses = 0
        var done = 0
        for seed in first..<(first + 125) {
            var simulation = Simulation(seed: seed)
            simulation.run()
            let history = simulation.history
            #expect(history.violations.isEmpty, "seed \(seed): \(history.violations.prefix(3))")
            #expect(history.unfinished.isEmpty, "seed \(seed): these jobs never end: \(history.unfinished)")
            #expect(simulation.accepted.count == 5, "seed \(seed): not every submission was accepted")
            grants += history.grants
            losses += history.losses
            done += history.endStates.count { $0 == .done }
        }
        // The faults did happen, and most jobs outlive them.
        #expect(grants > 125 * 5 * 5)
        #expect(losses > 0)
        #expect(done > 125 * 5 / 3)
    }

    @Test("the same seed replays exactly")
    func replay() {
        var first = Simulation(seed: 42)
        var second = Simulation(seed: 42)
        first.run()
        second.run()
        #expect(first.journal == second.journal)
    }
}
