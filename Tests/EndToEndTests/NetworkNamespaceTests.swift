import Foundation
import Testing

extension EndToEnd {
    @Suite("One machine a stage")
    struct NetworkNamespaceTests {
        @Test(
            "every stage in a network namespace of its own makes the same frames over TCP",
            .timeLimit(.minutes(4)))
        func everyStageOnItsOwnAddress() async throws {
            let folder = try TemporaryFolder()
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("netns.sh")
                .path
            let bin = URL(fileURLWithPath: try Executables.path("zoetrope")).deletingLastPathComponent().path
            let result = try await Subprocess(
                "/bin/bash", [script, "--bin", bin], in: folder, name: "netns"
            ).result(timeout: .seconds(220))
            print(result.output)
            #expect(result.status == 0, "\(result.everything)")
            #expect(result.output.contains("netns: identical") || result.output.contains("SKIPPED: "))
        }
    }
}
