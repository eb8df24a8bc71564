import CommandLineService
import Failure
import Runtime
import Testing

@Suite("CPUs of a cluster's workers")
struct CPUChoiceTests {
    private func arguments(_ choice: CPUChoice?) -> [String: String] {
        var plan = ClusterPlan(
            model: "/m", runDirectory: "/r", dataDirectory: "/d", gateway: ListenAddress(host: "127.0.0.1", port: 9))
        plan.workers = ["denoiser": 2]
        plan.cpus = choice
        var result: [String: String] = [:]
        for member in plan.members {
            guard let flag = member.arguments.firstIndex(of: "--cpus") else { continue }
            result[member.name] = member.arguments[flag + 1]
        }
        return result
    }

    @Test("a list goes to every worker as it is, and to nobody else")
    func list() throws {
        let usable = UsableCPUs(cpus: CPUList(0..<8), quota: nil)
        let expected = Dictionary(
            uniqueKeysWithValues: [
                "text-encoder-1", "vae-encoder-1", "denoiser-1", "denoiser-2", "vae-decoder-1", "video-muxer-1",
            ].map { ($0, "2-3,6") })
        #expect(arguments(try CPUChoice("6,2-3", usable: usable)) == expected)
        #expect(arguments(try CPUChoice(nil, usable: usable)) == [:])
    }

    @Test("auto divides the usable CPUs among the workers of each stage")
    func divided() throws {
        let cores = (0..<4).map { CPUList([$0, $0 + 4]) }
        let given = arguments(.divided(CPUTopology(nodes: [CPUList(0..<8)], cores: cores)))
        #expect(given["denoiser-1"] == "0-1,4-5")
        #expect(given["denoiser-2"] == "2-3,6-7")
        #expect(given["text-encoder-1"] == "0-7")
        guard case .divided(let here) = try CPUChoice("auto", usable: .current()) else {
            Issue.record("auto is no list")
            return
        }
        #expect(here.divided(into: 1) == [UsableCPUs.current().cpus])
    }

    @Test("wrong lists are refused before anything starts")
    func refused() throws {
        let usable = UsableCPUs(cpus: CPUList(0..<2), quota: nil)
        for wrong in ["", "automatic", "0-2", "7"] {
            let failure = try #require(throws: Failure.self, "\(wrong)") { try CPUChoice(wrong, usable: usable) }
            #expect(failure.code == "cpus_invalid")
            #expect(failure.remedy?.hasSuffix("Usable here: 0-1.") == true)
        }
    }
}
