// Compiles one CUDA C++ file to PTX with the NVRTC library named: nvrtc LIBRARY SOURCE OPTIONS... > PTX
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef void *Program;

static void *find(void *lib, const char *name) {
    void *f = dlsym(lib, name);
    if (!f) fprintf(stderr, "nvrtc: %s\n", dlerror()), exit(1);
    return f;
}

static char *read_all(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) perror(path), exit(1);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *s = malloc(n + 1);
    if (fread(s, 1, n, f) != (size_t)n) perror(path), exit(1);
    s[n] = 0;
    return s;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: nvrtc LIBRARY SOURCE OPTIONS...\n"), 2;
    void *lib = dlopen(argv[1], RTLD_NOW);
    if (!lib) return fprintf(stderr, "nvrtc: %s\n", dlerror()), 1;
    int (*create)(Program *, const char *, const char *, int, const char **, const char **) = find(lib, "nvrtcCreateProgram");
    int (*compile)(Program, int, const char **) = find(lib, "nvrtcCompileProgram");
    int (*log_size)(Program, size_t *) = find(lib, "nvrtcGetProgramLogSize");
    int (*get_log)(Program, char *) = find(lib, "nvrtcGetProgramLog");
    int (*ptx_size)(Program, size_t *) = find(lib, "nvrtcGetPTXSize");
    int (*get_ptx)(Program, char *) = find(lib, "nvrtcGetPTX");
    Program p;
    size_t n = 0;
    int status = create(&p, read_all(argv[2]), "kernels.cu", 0, 0, 0);
    if (status) return fprintf(stderr, "nvrtc: creating the program: %d\n", status), 1;
    status = compile(p, argc - 3, (const char **)argv + 3);
    if (!log_size(p, &n) && n > 1) {
        char *log = malloc(n);
        get_log(p, log);
        fputs(log, stderr);
    }
    if (status || ptx_size(p, &n)) return 1;
    char *ptx = malloc(n);
    if (get_ptx(p, ptx)) return 1;
    return fwrite(ptx, 1, n - 1, stdout) != n - 1;
}
