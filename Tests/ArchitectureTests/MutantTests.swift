import Foundation
import Testing

@Suite("Mutants")
struct MutantTests {
    @Test("every mutant of the gate still fits the sources: each text that it replaces is there once")
    func fit() throws {
        let folder = PackageManifest.root.appendingPathComponent("Tests/Mutants")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".mutant") }
        #expect(names.count > 20, "only \(names.count) mutants found: the scan is broken")
        for name in names.sorted() {
            let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
            let edits = text.split(separator: "\n=== ").dropFirst()
            #expect(!edits.isEmpty, "\(name) changes nothing")
            for edit in edits {
                let lines = edit.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false)
                let before = try #require(lines.last?.components(separatedBy: "\n--- becomes\n").first)
                let source = try String(
                    contentsOf: PackageManifest.root.appendingPathComponent(String(lines[0])), encoding: .utf8)
                let count = source.components(separatedBy: before).count - 1
                #expect(count == 1, "\(name): \(lines[0]) has its text \(count) times; change the mutant with the rule")
            }
        }
    }
}
