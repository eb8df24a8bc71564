import Work
import Wire

/// What many seeds came to.
package struct CampaignResult: Sendable {
    package var seeds: UInt64 = 0
    package var events: UInt64 = 0
    package var grants: UInt64 = 0
    package var losses: UInt64 = 0
    package var scheduling = SchedulingCounts()
    package var simulatedMilliseconds: UInt64 = 0
    package var faults = FaultCounts()
    /// How many jobs ended in each state.
    package var done: UInt64 = 0
    package var failed: UInt64 = 0
    package var dead: UInt64 = 0
    package var cancelled: UInt64 = 0
    /// Seeds that broke something, with their first violation.
    package var failures: [(seed: UInt64, violation: Violation)] = []

    package init() {}

    /// Runs one world and adds what it came to.
    package mutating func run(_ seed: UInt64, rules: WorldRules = WorldRules()) {
        var simulation = Simulation(seed: seed, rules: rules)
        simulation.run()
        seeds += 1
        events += UInt64(simulation.eventCount)
        grants += UInt64(simulation.grants)
        losses += UInt64(simulation.losses)
        scheduling.add(simulation.scheduling)
        simulatedMilliseconds += simulation.simulatedMilliseconds
        faults.add(simulation.faults)
        for end in simulation.ends {
            switch end {
            case .done: done += 1
            case .failed: failed += 1
            case .dead: dead += 1
            case .cancelled: cancelled += 1
            case .accepted, .running: break
            }
        }
        if let violation = simulation.violations.first { failures.append((seed, violation)) }
    }

    package mutating func add(_ other: CampaignResult) {
        seeds += other.seeds
        events += other.events
        grants += other.grants
        losses += other.losses
        scheduling.add(other.scheduling)
        simulatedMilliseconds += other.simulatedMilliseconds
        faults.add(other.faults)
        done += other.done
        failed += other.failed
        dead += other.dead
        cancelled += other.cancelled
        failures += other.failures
    }

    package var jobs: UInt64 { done + failed + dead + cancelled }
}
