import ArgumentParser
import Failure
import Runtime
import Stage
import Testing

@Suite("CPUs of a worker")
struct CPUOptionsTests {
    @Test("the process keeps the CPUs it is bound to, and unusable ones are refused")
    func binding() throws {
        let usable = UsableCPUs.current().cpus
        // Bound to what it has: other tests of this process must not notice.
        #expect(try CPUOptions.parse(["--cpus", "\(usable)"]).bind() == usable)
        #expect(UsableCPUs.current().cpus == usable)
        #expect(try CPUOptions.parse([]).bind() == nil)
        let options = try CPUOptions.parse(["--cpus", "0,16000"])
        let failure = try #require(throws: Failure.self) { try options.bind() }
        #expect(failure.code == "cpus_invalid")
        #expect(failure.message.contains("16000"))
        #expect(failure.remedy == "Usable here: \(usable).")
    }

    @Test("status answers name a worker's CPUs, or their number when the list is too long for a name")
    func names() {
        #expect(WorkerOptions.shown("denoiser-1", on: nil) == "denoiser-1")
        #expect(WorkerOptions.shown("denoiser-1", on: CPUList([0, 1, 2, 9])) == "denoiser-1 (CPUs 0-2,9)")
        let odd = CPUList((0..<64).map { 2 * $0 })
        #expect(WorkerOptions.shown("denoiser-1", on: odd) == "denoiser-1 (64 CPUs)")
    }

    @Test("the options of a model bring theirs along")
    func modelOptions() throws {
        let options = try ModelOptions.parse(["--model", "/m", "--cpus", "0", "--threads", "3"])
        #expect(options.processors.cpus == "0")
        #expect(options.threadCount == 3)
    }
}
