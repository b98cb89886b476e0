/* A stand-in for the driver of NVIDIA's GPUs and for the libraries above it.
 *
 * TensorFlow loads them by name and believes what they say, so it places operations, copies and
 * compiles as on GPUs. Device memory is host memory, copies are real, kernels compute nothing, and
 * what is launched, copied, waited for or added up between GPUs is written to a log. Whatever
 * is not below is generated (generate_stubs.py) and does nothing but report success.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t Address; /* CUdeviceptr */
typedef void *Handle;     /* streams, events, modules, descriptors: whatever has no inside here */

enum { OK = 0, INVALID = 1, DEVICES = 8 };
#define MEMORY ((size_t)32 << 30)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

Handle new_handle(void) { return calloc(1, 4096); }

static int device_count(void) {
  const char *count = getenv("REHEARSAL_GPUS");
  return count ? atoi(count) : 1;
}

/* ---- The log: one line an event: kind, GPU, bytes, name. ---- */

static FILE *log_file;
static __thread int device; /* the current one of this thread */

void write_event(const char *kind, size_t bytes, const char *name) {
  pthread_mutex_lock(&lock);
  if (log_file) fprintf(log_file, "%s\t%d\t%zu\t%s\n", kind, device, bytes, name);
  pthread_mutex_unlock(&lock);
}

void rehearsal_start(const char *path) {
  pthread_mutex_lock(&lock);
  log_file = fopen(path, "w");
  pthread_mutex_unlock(&lock);
}

void rehearsal_stop(void) {
  pthread_mutex_lock(&lock);
  if (log_file) fclose(log_file);
  log_file = NULL;
  pthread_mutex_unlock(&lock);
}

/* Nothing computes, so what the host reads may be told: reads of `size` bytes give `known` ones, and
 * then zeros. */
static struct {
  size_t size, known;
  char bytes[64];
} answers[16];
static int answer_count;

void rehearsal_answer(size_t size, const char *bytes, size_t known) {
  int i = answer_count++;
  answers[i].size = size;
  answers[i].known = known;
  memcpy(answers[i].bytes, bytes, known);
}

/* ---- Devices and contexts; a context's handle is its device's number and one. ---- */

static const int attributes[160] = {
    [1] = 1024, [2] = 1024, [3] = 1024, [4] = 64,       /* threads of a block */
    [5] = 2147483647, [6] = 65535, [7] = 65535,         /* blocks of a grid */
    [8] = 49152, [9] = 65536, [10] = 32,                /* shared, constant memory; warp */
    [11] = 2147483647, [12] = 65536, [13] = 1980000,    /* pitch; registers; clock in kHz */
    [14] = 512, [15] = 1, [16] = 132, [19] = 1,         /* multiprocessors; host memory mapped */
    [31] = 1, [32] = 1, [36] = 2619000, [37] = 5120,    /* memory clock, bus */
    [38] = 52428800, [39] = 2048, [40] = 3, [41] = 1,   /* cache; threads of a multiprocessor */
    [75] = 9, [76] = 0,                                 /* compute capability */
    [78] = 1, [79] = 1, [80] = 1, [81] = 233472, [82] = 65536, [83] = 1,
    [95] = 1, [96] = 1, [97] = 232448, [106] = 32, [111] = 1024, /* shared memory on request */
};

int cuDeviceGetCount(int *count) { *count = device_count(); return OK; }
int cuDeviceGet(int *number, int ordinal) { *number = ordinal; return OK; }
int cuDriverGetVersion(int *version) { *version = 12090; return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int number) { *bytes = MEMORY; return OK; }
int cuDeviceCanAccessPeer(int *can, int from, int to) { *can = 1; return OK; }
int cuDeviceGetName(char *name, int size, int number) {
  snprintf(name, size, "NVIDIA H100 80GB HBM3");
  return OK;
}
int cuDeviceGetPCIBusId(char *name, int size, int number) {
  snprintf(name, size, "0000:%02x:00.0", number + 1);
  return OK;
}
int cuDeviceGetAttribute(int *value, int attribute, int number) {
  *value = attribute == 33 ? number + 1 : attribute < 160 ? attributes[attribute] : 0; /* 33: bus */
  return OK;
}

static Handle context_of(int number) { return (Handle)(uintptr_t)(number + 1); }
int cuDevicePrimaryCtxRetain(Handle *context, int number) {
  *context = context_of(number);
  return OK;
}
int cuDevicePrimaryCtxGetState(int number, unsigned *flags, int *active) {
  *flags = 0;
  *active = 1;
  return OK;
}
int cuCtxSetCurrent(Handle context) {
  device = context ? (int)(uintptr_t)context - 1 : 0;
  return OK;
}
int cuCtxGetCurrent(Handle *context) { *context = context_of(device); return OK; }
int cuCtxGetDevice(int *number) { *number = device; return OK; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return OK;
}

int cudaGetDeviceCount(int *count) { return cuDeviceGetCount(count); }
int cudaGetDevice(int *number) { return cuCtxGetDevice(number); }
int cudaSetDevice(int number) { device = number; return OK; }
int cudaRuntimeGetVersion(int *version) { return cuDriverGetVersion(version); }
int cudaDriverGetVersion(int *version) { return cuDriverGetVersion(version); }
int cudaDeviceGetAttribute(int *value, int attribute, int number) {
  return cuDeviceGetAttribute(value, attribute, number);
}
/* The beginning of CUDA 12's cudaDeviceProp, and one field far behind it. */
typedef struct {
  char name[256], ids[32];
  size_t memory, shared_memory;
  int registers, warp;
  size_t pitch;
  int threads, block[3], grid[3], clock;
  size_t constant_memory;
  int major, minor;
  size_t alignments[2];
  int overlap, multiprocessors;
  char unused[232];
  int threads_of_multiprocessor;
} Properties;
int cudaGetDeviceProperties_v2(Properties *p, int number) {
  memset(p, 0, sizeof *p);
  cuDeviceGetName(p->name, sizeof p->name, number);
  p->memory = MEMORY;
  p->shared_memory = attributes[8];
  p->registers = attributes[12];
  p->warp = attributes[10];
  p->threads = attributes[1];
  memcpy(p->block, attributes + 2, sizeof p->block);
  memcpy(p->grid, attributes + 5, sizeof p->grid);
  p->major = attributes[75];
  p->multiprocessors = attributes[16];
  p->threads_of_multiprocessor = attributes[39];
  return OK;
}

/* ---- Memory: a reserved range a GPU, handed out upwards and never taken back. ---- */

static char *memory[DEVICES];
static size_t used[DEVICES];

static int owner(Address address) {
  for (int i = 0; i < DEVICES; i++)
    if (memory[i] && address - (Address)memory[i] < MEMORY) return i;
  return -1;
}

int cuMemAlloc_v2(Address *address, size_t bytes) {
  pthread_mutex_lock(&lock);
  if (!memory[device]) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    memory[device] = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory[device] == MAP_FAILED) abort();
  }
  *address = (Address)(memory[device] + used[device]);
  used[device] += (bytes + 4095) / 4096 * 4096;
  pthread_mutex_unlock(&lock);
  return used[device] < MEMORY ? OK : 2;
}
int cuMemGetInfo_v2(size_t *free, size_t *total) {
  *total = MEMORY;
  *free = MEMORY - used[device];
  return OK;
}
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  return posix_memalign(address, 4096, bytes ? bytes : 1) ? 2 : OK;
}
int cuPointerGetAttribute(void *value, int attribute, Address address) {
  int number = owner(address);
  if (number < 0) return INVALID; /* the host's */
  switch (attribute) {
    case 1: *(Handle *)value = context_of(number); break;
    case 2: *(unsigned *)value = 2; break; /* device memory */
    case 3: *(Address *)value = address; break;
    case 9: *(int *)value = number; break;
    default: *(int *)value = 0;
  }
  return OK;
}

static int copy(const char *kind, Address to, Address from, size_t bytes) {
  write_event(kind, bytes, "");
  memcpy((void *)to, (void *)from, bytes);
  if (strcmp(kind, "DtoH")) return OK;
  for (int i = 0; i < answer_count; i++) {
    if (answers[i].size != bytes) continue;
    memset((void *)to, 0, bytes);
    memcpy((void *)to, answers[i].bytes, answers[i].known);
  }
  return OK;
}
int cuMemcpyHtoD_v2(Address to, Address from, size_t n) { return copy("HtoD", to, from, n); }
int cuMemcpyDtoH_v2(Address to, Address from, size_t n) { return copy("DtoH", to, from, n); }
int cuMemcpyDtoD_v2(Address to, Address from, size_t n) { return copy("DtoD", to, from, n); }
int cuMemcpyHtoDAsync_v2(Address to, Address from, size_t n, Handle stream) {
  return copy("HtoD", to, from, n);
}
int cuMemcpyDtoHAsync_v2(Address to, Address from, size_t n, Handle stream) {
  return copy("DtoH", to, from, n);
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, Handle stream) {
  return copy("DtoD", to, from, n);
}
int cuMemcpyPeerAsync(Address to, Handle there, Address from, Handle here, size_t n, Handle s) {
  return copy("PtoP", to, from, n);
}
int cudaMemcpyAsync(Address to, Address from, size_t n, int kind, Handle stream) {
  return copy(kind == 1 ? "HtoD" : kind == 2 ? "DtoH" : "DtoD", to, from, n);
}
int cuMemsetD8Async(Address to, unsigned char value, size_t n, Handle stream) {
  memset((void *)to, value, n);
  return OK;
}
int cuMemsetD32Async(Address to, unsigned value, size_t n, Handle stream) {
  for (size_t i = 0; i < n; i++) ((unsigned *)to)[i] = value;
  return OK;
}

/* ---- Streams and events: all is done as soon as it is asked for. ---- */

int cuCtxSynchronize(void) { write_event("sync", 0, "context"); return OK; }
int cuStreamSynchronize(Handle stream) { write_event("sync", 0, "stream"); return OK; }
int cuEventSynchronize(Handle event) { write_event("sync", 0, "event"); return OK; }
int cuEventElapsedTime(float *ms, Handle from, Handle to) { *ms = 1; return OK; }
int cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) {
  *stream = new_handle();
  return OK;
}
int cuStreamIsCapturing(Handle stream, int *capturing) { *capturing = 0; return OK; }
int cuLaunchHostFunc(Handle stream, void (*function)(void *), void *argument) {
  function(argument);
  return OK;
}

/* ---- Kernels: a function's handle is its name. ---- */

typedef struct { unsigned x, y, z; } Size3;
static __thread struct { Size3 grid, block; size_t shared; Handle stream; } pushed[16];
static __thread int depth;

int cuModuleLoadData(Handle *module, const void *image) { *module = new_handle(); return OK; }
int cuModuleLoadFatBinary(Handle *module, const void *image) {
  return cuModuleLoadData(module, image);
}
int cuModuleGetFunction(Handle *function, Handle module, const char *name) {
  *function = strdup(name);
  return OK;
}
int cuModuleGetGlobal_v2(Address *address, size_t *bytes, Handle module, const char *name) {
  if (bytes) *bytes = 1 << 20;
  return address ? cuMemAlloc_v2(address, 1 << 20) : OK;
}
int cuFuncGetAttribute(int *value, int attribute, Handle function) {
  *value = attribute == 0 ? 1024 : attribute == 4 ? 64 : 0; /* threads of a block; registers */
  return OK;
}
int cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, Handle stream, void **arguments, void **extra) {
  write_event("kernel", 0, function);
  return OK;
}
typedef struct { Size3 grid, block; unsigned shared; Handle stream; } Launch;
int cuLaunchKernelEx(const Launch *launch, Handle function, void **arguments, void **extra) {
  write_event("kernel", 0, function);
  return OK;
}

/* TensorFlow's own kernels are known by the address of a function of the host. */
static struct { const void *function; const char *name; } *kernels;
static size_t kernel_count;

Handle *__cudaRegisterFatBinary(void *binary) { return new_handle(); }
void __cudaRegisterFunction(Handle *module, const void *function, char *device_function,
                            const char *name, int threads, Size3 *a, Size3 *b, Size3 *c, Size3 *d,
                            int *warp) {
  pthread_mutex_lock(&lock);
  if (kernel_count % 4096 == 0)
    kernels = realloc(kernels, (kernel_count + 4096) * sizeof *kernels);
  kernels[kernel_count].function = function;
  kernels[kernel_count++].name = name;
  pthread_mutex_unlock(&lock);
}
static const char *kernel_name(const void *function) {
  for (size_t i = 0; i < kernel_count; i++)
    if (kernels[i].function == function) return kernels[i].name;
  return "unknown";
}
unsigned __cudaPushCallConfiguration(Size3 grid, Size3 block, size_t shared, Handle stream) {
  int i = depth++ & 15;
  pushed[i].grid = grid;
  pushed[i].block = block;
  pushed[i].shared = shared;
  pushed[i].stream = stream;
  return OK;
}
int __cudaPopCallConfiguration(Size3 *grid, Size3 *block, size_t *shared, Handle *stream) {
  int i = --depth & 15;
  *grid = pushed[i].grid;
  *block = pushed[i].block;
  *shared = pushed[i].shared;
  *stream = pushed[i].stream;
  return OK;
}
int cudaLaunchKernel(const void *function, Size3 grid, Size3 block, void **arguments,
                     size_t shared, Handle stream) {
  if (log_file) write_event("kernel", 0, kernel_name(function));
  return OK;
}
int cudaGetFuncBySymbol(Handle *function, const void *symbol) {
  *function = (Handle)kernel_name(symbol);
  return OK;
}
/* cudaFuncAttributes */
typedef struct { size_t memory[3]; int threads, registers, rest[8]; } FunctionAttributes;
int cudaFuncGetAttributes(FunctionAttributes *found, const void *function) {
  memset(found, 0, sizeof *found);
  found->threads = 1024;
  found->registers = 64;
  return OK;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function,
                                                           int threads, size_t shared,
                                                           unsigned flags) {
  *blocks = 2;
  return OK;
}

/* ---- Graphs of kernels, which XLA makes. ---- */

int cuGraphLaunch(Handle graph, Handle stream) { write_event("graph", 0, ""); return OK; }

/* ---- cuDNN and cuBLAS ---- */

size_t cudnnGetVersion(void) { return 91002; }
int cudnnGetProperty(int which, int *value) {
  *value = (int[]){9, 10, 2}[which];
  return OK;
}
int cudnnBackendCreateDescriptor(int type, Handle *descriptor) {
  *descriptor = new_handle();
  return OK;
}
/* cuDNN's graphs: an engine that has no notes, knobs or workspace. */
int cudnnBackendGetAttribute(Handle descriptor, int attribute, int type, int64_t asked,
                             int64_t *count, void *values) {
  int none = attribute == 302 || attribute == 403 || attribute == 404 ||
             (attribute >= 1302 && attribute <= 1305);
  if (attribute == 405 && values && asked >= 3) memcpy(values, "{}", 3); /* JSON */
  if (count) *count = none ? 0 : attribute == 405 ? 3 : 1;
  if (!none && values && asked > 0 && type == 3) *(int64_t *)values = 0;
  if (!none && values && asked > 0 && type == 23) *(int *)values = 0;
  return OK;
}
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(Handle h, int mode, int ops, Handle x,
                                                             Handle z, Handle y, Handle p,
                                                             Handle a, size_t *bytes) {
  *bytes = 1024;
  return OK;
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(Handle h, int mode, int ops, Handle x,
                                                      Handle y, Handle dy, Handle dz, Handle dx,
                                                      Handle p, Handle a, size_t *bytes) {
  *bytes = 1024;
  return OK;
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(Handle h, int mode, int ops, Handle a,
                                                         Handle x, size_t *bytes) {
  *bytes = 1024;
  return OK;
}
int cublasGetVersion_v2(Handle handle, int *version) { *version = 120900; return OK; }
int cublasGetMathMode(Handle handle, int *mode) { *mode = 0; return OK; }
int cublasGetPointerMode_v2(Handle handle, int *mode) { *mode = 0; return OK; }

/* ---- NCCL ---- */

typedef struct { char bytes[128]; } UniqueId;
int ncclGetVersion(int *version) { *version = 22800; return OK; }
int ncclGetUniqueId(UniqueId *id) { memset(id, 7, sizeof *id); return OK; }
int ncclCommInitRank(Handle *communicator, int ranks, UniqueId id, int rank) {
  *communicator = new_handle();
  *(int *)*communicator = ranks;
  return OK;
}
int ncclCommInitRankConfig(Handle *communicator, int ranks, UniqueId id, int rank, void *config) {
  return ncclCommInitRank(communicator, ranks, id, rank);
}
int ncclCommCount(Handle communicator, int *ranks) { *ranks = *(int *)communicator; return OK; }
/* XLA asks until a communicator is ready. */
int ncclCommGetAsyncError(Handle communicator, int *error) { *error = OK; return OK; }
int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation,
                  Handle communicator, Handle stream) {
  static const int sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  write_event("collective", count * sizes[type], "AllReduce");
  return OK;
}
