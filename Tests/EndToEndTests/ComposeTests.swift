import Foundation
import Testing

extension EndToEnd {
    @Suite("The services as compose.yaml starts them")
    struct ComposeTests {
        @Test(
            "the commands of compose.yaml, each as the containers' user with its own key, make a video",
            .timeLimit(.minutes(4)))
        func everyServiceWithItsKey() async throws {
            let folder = try TemporaryFolder()
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("compose.sh").path
            let bin = URL(fileURLWithPath: try Executables.path("zoetrope")).deletingLastPathComponent().path
            let result = try await Subprocess(
                "/bin/bash", [script, "--bin", bin], in: folder, name: "compose"
            ).result(timeout: .seconds(220))
            print(result.output)
            #expect(result.status == 0, "\(result.everything)")
            #expect(result.output.contains("compose: passed") || result.output.contains("SKIPPED: "))
        }
    }
}
