import Testing

@Suite("The arrows point down")
struct ArrowTests {
    let manifest: PackageManifest
    let products: [PackageManifest.Target]

    init() throws {
        manifest = try PackageManifest.load()
        products = manifest.targets.filter { $0.kind != "test" && !Layers.testing.contains($0.name) }
    }

    @Test("the manifest holds the targets that the rules speak of, and no other")
    func everyTargetHasALayer() {
        let known = Set(Layers.modules.joined())
        #expect(Set(products.map(\.name)) == known)
    }

    @Test("a target depends only on layers below its own")
    func dependenciesPointDown() {
        for target in products {
            guard let layer = Layers.layer(of: target.name) else { continue }
            for dependency in target.dependencies {
                guard let below = Layers.layer(of: dependency) else { continue }
                let beside = Layers.sideways[target.name]?.contains(dependency) ?? false
                #expect(below < layer || beside, "\(target.name) depends on \(dependency), which is not below it")
            }
        }
    }

    @Test("a C module depends on C modules only")
    func cModulesStandAlone() {
        for target in products where Layers.layer(of: target.name) == 0 {
            for dependency in target.dependencies {
                #expect(Layers.layer(of: dependency) == 0, "\(target.name) depends on \(dependency)")
            }
        }
    }

    @Test("a service never depends on another service")
    func servicesAreStrangers() {
        for target in manifest.targets {
            let services = Set(target.dependencies.filter { $0.hasSuffix("Service") })
            let own: Set<String>
            if target.kind == "test" {
                own = Layers.crossingTests[target.name] ?? [target.name.replacing("Tests", with: "Service")]
            } else {
                own = target.kind == "executable" ? [target.name.replacing("Main", with: "Service")] : []
            }
            #expect(services.isSubset(of: own), "\(target.name) depends on \(services.subtracting(own).sorted())")
            let mains = target.dependencies.filter { $0.hasSuffix("Main") }
            #expect(mains.isEmpty, "\(target.name) depends on an executable: \(mains)")
        }
    }

    @Test("each foreign library is seen by one module", arguments: Layers.only.keys.sorted())
    func foreignLibrariesHaveOneOwner(library: String) {
        let owners = Layers.only[library] ?? []
        let seen = Set(products.filter { $0.dependencies.contains(library) }.map(\.name))
        #expect(!seen.isEmpty, "no target uses \(library): the rule is out of date")
        #expect(seen.isSubset(of: owners), "\(library) is declared by \(seen.subtracting(owners).sorted())")
    }
}

@Suite("Sources import what their target declares")
struct ImportTests {
    let manifest: PackageManifest

    init() throws { manifest = try PackageManifest.load() }

    @Test("every imported module is declared in Package.swift or part of the toolchain")
    func importsAreDeclared() throws {
        let declaration =
            /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:package|public|internal|fileprivate|private)\s+)?import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)/
        var imports = 0
        for target in manifest.targets where !target.path.isEmpty {
            for file in try SourceFile.all(in: [target.path], extensions: ["swift"]) {
                for line in file.code {
                    guard let match = line.firstMatch(of: declaration) else { continue }
                    let module = String(match.1)
                    imports += 1
                    #expect(
                        target.dependencies.contains(module) || Layers.toolchain.contains(module),
                        "\(file.path) imports \(module), which \(target.name) does not declare")
                    if target.kind != "test", let owners = Layers.only[module] {
                        #expect(owners.contains(target.name), "\(file.path) imports \(module)")
                    }
                }
            }
        }
        #expect(imports > 100, "only \(imports) imports found: the scan is broken")
    }

    @Test("C sources include the headers of their own library only")
    func headersHaveOneOwner() throws {
        let inclusion = /^\s*#\s*include\s*[<"]([^>"]+)[>"]/
        for file in try SourceFile.all(in: ["Shared"], extensions: ["c", "h"]) {
            let folder = file.path.split(separator: "/")[1]
            for line in file.lines {
                guard let match = line.firstMatch(of: inclusion) else { continue }
                let header = String(match.1)
                for rule in Layers.headers where header.hasPrefix(rule.prefix) {
                    let generated = folder == "CWire" && rule.folder == "CProtobufC"
                    #expect(folder == rule.folder || generated, "\(file.path) includes \(header)")
                }
            }
        }
    }
}
