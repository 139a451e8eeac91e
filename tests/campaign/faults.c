// Runs a program, counts the system calls by which all its threads change or read files below a folder, and lets the call
// of a given number fail, or kills the program there. tests/campaign.rs compiles and uses it. Linux on x86-64.
//
//   faults FOLDER CLASSES NUMBER ACTION COUNT PROGRAM ARGUMENTS...
//
// CLASSES  letters: w write, s sync, r rename or link, c open to write, m make a folder, u unlink, t truncate or change
//          the mode, O open to read, R read
// ACTION   0 nothing, -1 kill, an errno; with + before it, every later call of these classes fails too
// COUNT    a file that gets the number of calls, and which one failed
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH = 4096 };

// How a call names its file: by a descriptor, by a path, or by a folder's descriptor and a path, in these registers.
static const struct { long call; char class; int folder, path; } CALLS[] = {
    {SYS_write, 'w', 0, -1}, {SYS_pwrite64, 'w', 0, -1}, {SYS_writev, 'w', 0, -1}, {SYS_copy_file_range, 'w', 2, -1},
    {SYS_fsync, 's', 0, -1}, {SYS_fdatasync, 's', 0, -1}, {SYS_syncfs, 's', 0, -1},
    {SYS_rename, 'r', -1, 1}, {SYS_renameat, 'r', 2, 3}, {SYS_renameat2, 'r', 2, 3}, {SYS_link, 'r', -1, 1}, {SYS_linkat, 'r', 2, 3},
    {SYS_open, 'c', -1, 0}, {SYS_openat, 'c', 0, 1}, {SYS_creat, 'c', -1, 0},
    {SYS_mkdir, 'm', -1, 0}, {SYS_mkdirat, 'm', 0, 1},
    {SYS_unlink, 'u', -1, 0}, {SYS_unlinkat, 'u', 0, 1}, {SYS_rmdir, 'u', -1, 0},
    {SYS_ftruncate, 't', 0, -1}, {SYS_fchmod, 't', 0, -1}, {SYS_chmod, 't', -1, 0}, {SYS_fchmodat, 't', 0, 1},
    {SYS_read, 'R', 0, -1}, {SYS_pread64, 'R', 0, -1}, {SYS_readv, 'R', 0, -1},
};
enum { N = sizeof CALLS / sizeof *CALLS };

static unsigned long argument(const struct user_regs_struct *r, int i) {
    unsigned long all[] = {r->rdi, r->rsi, r->rdx, r->r10};
    return all[i];
}

static void target(const char *link, char *out) {
    ssize_t n = readlink(link, out, PATH - 1);
    out[n < 0 ? 0 : n] = 0;
}

static void string(pid_t pid, unsigned long at, char *out) {
    size_t n = 0;
    // In pieces: the page after the string may not exist.
    while (n < PATH - 1) {
        size_t piece = 4096 - ((at + n) & 4095);
        if (piece > PATH - 1 - n) piece = PATH - 1 - n;
        struct iovec here = {out + n, piece}, there = {(void *)(at + n), piece};
        ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
        if (got <= 0) break;
        if (memchr(out + n, 0, got)) return;
        n += got;
    }
    out[n] = 0;
}

// The class of the call that a thread is about to make, 0 if it is none; `path` gets the file.
static char classify(pid_t pid, const struct user_regs_struct *r, char *path) {
    for (int i = 0; i < N; i++) {
        if ((long)r->orig_rax != CALLS[i].call) continue;
        char link[64], name[PATH], folder[PATH];
        int fd = CALLS[i].folder < 0 ? AT_FDCWD : (int)argument(r, CALLS[i].folder);
        if (fd == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", pid);
        else snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, fd);
        if (CALLS[i].path < 0) {
            target(link, path);
            return CALLS[i].class;
        }
        string(pid, argument(r, CALLS[i].path), name);
        target(link, folder);
        if (name[0] == '/') snprintf(path, 2 * PATH, "%s", name);
        else snprintf(path, 2 * PATH, "%s/%s", folder, name);
        int flags = r->orig_rax == SYS_open ? (int)r->rsi : r->orig_rax == SYS_openat ? (int)r->rdx : O_WRONLY;
        return CALLS[i].class == 'c' && !(flags & (O_CREAT | O_WRONLY | O_RDWR)) ? 'O' : CALLS[i].class;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 7) return 99;
    const char *below = argv[1], *classes = argv[2], *count_file = argv[5];
    long number = atol(argv[3]), count = 0;
    int later = argv[4][0] == '+', action = atoi(argv[4] + later);
    pid_t child = fork();
    if (child == 0) {
        struct sock_filter filter[N + 3];
        int n = 0;
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (int i = 0; i < N; i++)
            filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALLS[i].call, N - i, 0);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
        struct sock_fprog program = {n, filter};
        raise(SIGSTOP);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) _exit(99);
        execv(argv[6], argv + 6);
        _exit(99);
    }
    int status, code = 99;
    waitpid(child, &status, WUNTRACED);
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SEIZE, child, 0, options)) return 99;
    kill(child, SIGCONT);
    char what[3 * PATH] = "";
    pid_t pid;
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFEXITED(status) && pid == child) code = WEXITSTATUS(status);
        if (WIFSIGNALED(status) && pid == child) code = 128 + WTERMSIG(status);
        if (!WIFSTOPPED(status)) continue;
        int signal = WSTOPSIG(status), event = status >> 16;
        struct user_regs_struct r;
        if (event == PTRACE_EVENT_SECCOMP && ptrace(PTRACE_GETREGS, pid, 0, &r) == 0) {
            char path[2 * PATH] = "", class = classify(pid, &r, path);
            if (class && strchr(classes, class) && strncmp(path, below, strlen(below)) == 0) {
                count++;
                if (count == number) snprintf(what, sizeof what, "%c %s", class, path);
                if (action && (count == number || (later && number > 0 && count > number))) {
                    if (action < 0) {
                        kill(child, SIGKILL);
                        continue;
                    }
                    r.orig_rax = -1;
                    r.rax = -action;
                    ptrace(PTRACE_SETREGS, pid, 0, &r);
                }
            }
        }
        // A stop of a group of threads stays one; a new thread's first stop ends here.
        int stays = event == PTRACE_EVENT_STOP && signal != SIGTRAP;
        ptrace(stays ? PTRACE_LISTEN : PTRACE_CONT, pid, 0, event ? 0 : signal);
    }
    FILE *out = fopen(count_file, "w");
    if (out) {
        fprintf(out, "%ld\n%s\n", count, what);
        fclose(out);
    }
    return code;
}
